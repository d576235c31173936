"""``arcinvert plot det``: DET curves."""

from arcinvert.cli.common import Json
from arcinvert.cli.plot.common import Embeddings, LabelFiles, Names, Out, done, pair_scores

NAME = "det"


def main(embeddings: Embeddings, labels: LabelFiles, out: Out, name: Names = None, json_out: Json = False) -> None:
    """False non-match rate over false match rate of all pairs, with 95 % intervals.

    Examples:
        arcinvert plot det --embeddings e.npy --labels labels.txt -o det.svg
    """
    from arcinvert.evaluation import plots

    plots.check_output(out)
    scores, read = pair_scores(embeddings, labels, name)
    plots.det(out, scores)
    done(NAME, out, read, json_out)
