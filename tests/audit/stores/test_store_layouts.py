"""Databases of photo and face tools are opened by their address alone."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from arcinvert.audit.stores import open_store
from arcinvert.errors import InputError

ROWS = np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("version", ["faceClusterId", "personId", "older"])
def test_immich(postgres: str, version: str) -> None:
    import psycopg

    faces, person = ("asset_faces", "personId") if version == "older" else ("asset_face", version)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("create extension if not exists vector")
        connection.execute(f"drop database if exists immich_{version.lower()}")
        connection.execute(f"create database immich_{version.lower()}")
        address = psycopg.conninfo.make_conninfo(postgres, dbname=f"immich_{version.lower()}")
        parts = psycopg.conninfo.conninfo_to_dict(address)
    url = f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create extension if not exists vector")
        connection.execute(f'create table {faces} (id uuid primary key, "assetId" uuid, "{person}" uuid)')
        connection.execute('create table face_search ("faceId" uuid primary key, embedding vector(32))')
        connection.execute('create table smart_search ("assetId" uuid primary key, embedding vector(32))')  # no faces
        for number, row in enumerate(ROWS):
            face = f"00000000-0000-0000-0000-{number:012}"
            who = f"10000000-0000-0000-0000-{number // 2:012}" if number < 20 else None
            connection.execute(f"insert into {faces} values (%s, %s, %s)", (face, face, who))
            connection.execute("insert into face_search values (%s, %s)", (face, str(row.tolist())))
    store = open_store(url)
    (block,) = store.blocks()
    assert np.allclose(block.templates, ROWS)
    people = [f"10000000-0000-0000-0000-{number // 2:012}" for number in range(20)]
    assert block.identities == people + [""] * 4


def test_photoprism_on_sqlite(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "index.db")) as connection:
        connection.execute("create table subjects (subj_uid blob primary key, subj_name text)")
        connection.execute(
            "create table markers (marker_uid blob primary key, marker_type blob, subj_uid blob, embeddings_json blob)"
        )
        connection.execute("create table faces (id blob primary key, embedding_json blob)")
        connection.execute("insert into subjects values ('js1', 'Ann')")
        for number, row in enumerate(ROWS):
            listed = json.dumps([row.tolist()]).encode()
            connection.execute("insert into markers values (?, 'face', ?, ?)", (f"m{number:02}", "js1", listed))
        connection.execute("insert into markers values ('m99', 'label', '', ?)", (b"",))
        connection.commit()
    (block,) = open_store(str(tmp_path / "index.db")).blocks()
    assert np.allclose(block.templates, ROWS)
    assert block.identities == ["Ann"] * 24
    assert block.skipped == {"null": 1}


def test_deepface_on_sqlite(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "deepface.db")) as connection:
        connection.execute(
            "create table embeddings (id integer primary key autoincrement, img_name text, face blob, face_shape text, "
            "model_name text, detector_backend text, aligned integer, l2_normalized integer, embedding blob, "
            "face_hash text, embedding_hash text)"
        )
        connection.execute("create table embeddings_index (id integer primary key, model_name text, index_data blob)")
        for number, row in enumerate(ROWS):
            wide = row.astype("<f8").tobytes()
            face = np.zeros(300, np.float32).tobytes()
            connection.execute(
                "insert into embeddings (img_name, face, embedding) values (?, ?, ?)", (f"{number}.jpg", face, wide)
            )
        connection.execute("insert into embeddings_index values (1, 'ArcFace', ?)", (bytes(3000),))
        connection.commit()
    store = open_store(str(tmp_path / "deepface.db"))
    (block,) = store.blocks()
    assert np.array_equal(block.templates, ROWS)
    assert store.contents.identity is None


def test_frigate_keeps_photos_and_no_embeddings_of_faces(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "frigate.db")) as connection:
        for name in ("event", "recordings", "vec_thumbnails_rowids"):
            connection.execute(f"create table {name} (id text)")
        connection.execute("create table vec_thumbnails_vector_chunks00 (rowid integer primary key, vectors blob)")
        connection.execute("insert into vec_thumbnails_vector_chunks00 values (1, ?)", (ROWS.tobytes(),))
        connection.commit()
    with pytest.raises(InputError, match="clips/faces"):
        open_store(str(tmp_path / "frigate.db"))
