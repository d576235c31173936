"""The protocols for a labeled set without lists, such as a folder of identities.

The order of the labels and of the rows decides which images are enrolled and which are probes.
"""

import numpy as np

from arcinvert.evaluation.allpairs.search import Labels, Rows, check_rows
from arcinvert.evaluation.protocols.angles import embedding_centers
from arcinvert.evaluation.protocols.identification import Identification, folder_split, identify
from arcinvert.evaluation.protocols.megaface import MegaFace, megaface
from arcinvert.evaluation.protocols.retrieval import TOP, Retrieval, mean_average_precision, split_queries
from arcinvert.evaluation.protocols.templates import (
    TemplateIdentification,
    TemplateVerification,
    halves,
    identify_templates,
    pool,
    verify_templates,
)


def identify_folder(
    rows: Rows, labels: Labels, *, distractors: Rows | None = None, engine: str = "auto", max_rank: int = 20
) -> tuple[Identification, MegaFace | None]:
    """Identification with :func:`~arcinvert.evaluation.protocols.identification.folder_split`, and MegaFace.

    Args:
        rows: (N, D), unit norm.
        labels: (N,).
        distractors: (M, D), unit norm, of identities outside ``rows``. Without them, MegaFace uses the images of the
            identities that are not enrolled; it is None if there are none.
        engine, max_rank: see :func:`~arcinvert.evaluation.protocols.identification.identify`.

    Raises:
        InputError: invalid rows or labels, or no probe.
    """
    check_rows(rows, labels)
    gallery, mated, unmated = folder_split(labels)
    probes = np.concatenate([mated, unmated])
    found = identify(
        rows[gallery],
        rows[probes],
        gallery_labels=labels[gallery],
        probe_labels=labels[probes],
        distractors=distractors,
        engine=engine,
        max_rank=max_rank,
    )
    strangers = rows[unmated] if distractors is None else distractors
    known = np.sort(np.concatenate([gallery, mated]))
    return found, megaface(rows[known], strangers, labels=labels[known]) if len(strangers) else None


def template_folder(
    rows: Rows, labels: Labels, *, engine: str = "auto"
) -> tuple[TemplateVerification, TemplateIdentification]:
    """Verification and identification with :func:`~arcinvert.evaluation.protocols.templates.halves`.

    Raises:
        InputError: invalid rows or labels, or no identity with two images.
    """
    check_rows(rows, labels)
    members, pairs, probes, galleries = halves(labels)
    made = pool(rows, members)
    used = [gallery for gallery in galleries if len(gallery)]  # a single identity fills only one gallery
    return (
        verify_templates(made, pairs, subjects=members.subjects),
        identify_templates(made, probes, galleries=used, subjects=members.subjects, engine=engine),
    )


def retrieve_folder(rows: Rows, labels: Labels, *, top: int = TOP) -> Retrieval:
    """Retrieval with :func:`~arcinvert.evaluation.protocols.retrieval.split_queries`.

    Raises:
        InputError: invalid rows or labels, or no identity with two images.
    """
    check_rows(rows, labels)
    names, of_query, videos = split_queries(labels)
    enrolled = of_query >= 0
    queries = embedding_centers(rows[enrolled], of_query[enrolled], len(names))
    return mean_average_precision(queries, rows[videos], query_labels=names, video_labels=labels[videos], top=top)
