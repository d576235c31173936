"""``arcinvert plot angles``: histograms of angles."""

from arcinvert.cli.common import Json
from arcinvert.cli.plot.common import Embeddings, LabelFiles, Names, Out, done, pair_scores

NAME = "angles"


def main(embeddings: Embeddings, labels: LabelFiles, out: Out, name: Names = None, json_out: Json = False) -> None:
    """Histograms of the angles of genuine and impostor pairs, in degrees.

    Examples:
        arcinvert plot angles --embeddings e.npy --labels labels.txt -o angles.png
    """
    from arcinvert.evaluation import plots

    plots.check_output(out)
    scores, read = pair_scores(embeddings, labels, name)
    plots.angles(out, scores)
    done(NAME, out, read, json_out)
