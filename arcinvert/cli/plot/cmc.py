"""``arcinvert plot cmc``: cumulative match curves."""

from typing import Annotated

import typer

from arcinvert.cli.common import Json
from arcinvert.cli.plot.common import Embeddings, LabelFiles, Names, Out, done, stored
from arcinvert.errors import InputError

NAME = "cmc"


def main(
    embeddings: Embeddings,
    labels: LabelFiles,
    out: Out,
    name: Names = None,
    max_rank: Annotated[int, typer.Option("--max-rank", min=1, help="End the curve at this rank.")] = 20,
    json_out: Json = False,
) -> None:
    """Share of the probes found by each rank; the first row of an identity is the gallery, the others are probes.

    Examples:
        arcinvert plot cmc --embeddings e.npy --labels labels.txt -o cmc.png --max-rank 10
    """
    import numpy as np

    from arcinvert.evaluation import plots
    from arcinvert.evaluation.protocols.identification import identify

    plots.check_output(out)
    rates, read = {}, []
    for title, found in stored(embeddings, labels, name):
        gallery = np.unique(found.labels, return_index=True)[1]
        probes = np.setdiff1d(np.arange(len(found.rows)), gallery)
        if not len(probes) or len(gallery) < 2:
            raise InputError(f"expected two identities and a second image of one, {title!r} has none")
        identified = identify(
            found.rows[gallery],
            found.rows[probes],
            gallery_labels=found.labels[gallery],
            probe_labels=found.labels[probes],
            max_rank=max_rank,
        )
        if identified.cmc is None:
            raise InputError(f"no curve for {title!r}: {identified.note}")
        rates[title] = (identified.cmc, identified.mated)
        read.append({"name": title, "files": found.files, "gallery": len(gallery), "probes": len(probes)})
    plots.cmc(out, rates)
    done(NAME, out, read, json_out)
