"""``arcinvert plot roc``: ROC curves."""

from arcinvert.cli.common import Json
from arcinvert.cli.plot.common import Embeddings, LabelFiles, Names, Out, done, pair_scores

NAME = "roc"


def main(embeddings: Embeddings, labels: LabelFiles, out: Out, name: Names = None, json_out: Json = False) -> None:
    """True accept rate over false match rate of all pairs, with 95 % intervals.

    Examples:
        arcinvert plot roc --embeddings e.npy --labels labels.txt -o roc.png
    """
    from arcinvert.evaluation import plots

    plots.check_output(out)
    scores, read = pair_scores(embeddings, labels, name)
    plots.roc(out, scores)
    done(NAME, out, read, json_out)
