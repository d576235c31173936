"""The protocols for a set that comes without lists: a folder of identities, or labeled embeddings.

Which picture plays which part follows from the order of the labels and of the rows alone.
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
    """Identification by :func:`~arcinvert.evaluation.protocols.identification.folder_split`, and MegaFace style.

    Args:
        rows: (N, D), unit norm.
        labels: (N,).
        distractors: (M, D) of nobody in ``rows``; without, the identities that are not enrolled stand for
            them in the MegaFace figures. None of these where there are neither.
        engine, max_rank: see :func:`~arcinvert.evaluation.protocols.identification.identify`.

    Raises:
        InputError: rows or labels that do not fit, or no identity with a picture to probe with.
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
    """Templates of half of an identity's pictures, see :func:`~arcinvert.evaluation.protocols.templates.halves`.

    Raises:
        InputError: rows or labels that do not fit, or no identity with two pictures.
    """
    check_rows(rows, labels)
    members, pairs, probes, galleries = halves(labels)
    made = pool(rows, members)
    used = [gallery for gallery in galleries if len(gallery)]  # a single identity fills one gallery only
    return (
        verify_templates(made, pairs, subjects=members.subjects),
        identify_templates(made, probes, galleries=used, subjects=members.subjects, engine=engine),
    )


def retrieve_folder(rows: Rows, labels: Labels, *, top: int = TOP) -> Retrieval:
    """Retrieval by :func:`~arcinvert.evaluation.protocols.retrieval.split_queries`.

    Raises:
        InputError: rows or labels that do not fit, or no identity with two pictures.
    """
    check_rows(rows, labels)
    names, of_query, videos = split_queries(labels)
    enrolled = of_query >= 0
    queries = embedding_centers(rows[enrolled], of_query[enrolled], len(names))
    return mean_average_precision(queries, rows[videos], query_labels=names, video_labels=labels[videos], top=top)
