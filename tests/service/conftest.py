"""A small annotated clip, made by hand, that every writer is tested on; databases; services."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from postgres_server import MISSING, postgres_folder, running_postgres

from amodal_model.masks import BoxedMask, Rle, box_mask, empty_mask, encode_rle
from amodal_model.results import FrameResult, ObjectResult, ObjectState
from amodal_model.video import open_clip
from amodal_model.youtube_vis import Tracklet, VideoEntry
from amodal_service.amodal_json import Segmented
from amodal_service.database import Database, open_database
from amodal_service.journal import open_journal
from amodal_service.records import frame_record
from amodal_service.services import Services
from amodal_service.sources import ClipSource

SIZE = (48, 64)
LENGTH = 4


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return box_mask(mask)


def result_of(
    track_id: int, visible: BoxedMask, amodal: BoxedMask, state: ObjectState
) -> ObjectResult:
    rate = 1 - visible.area / amodal.area if amodal.area else 1.0
    remembered = rectangle(24, 15, 28, 25) if state == "hidden" else empty_mask(SIZE)
    return ObjectResult(track_id, visible, amodal, rate, state, (1,), 0.75, 1.0, 0.5, remembered)


def frame_results() -> list[FrameResult]:
    """Object 1 stands in front; 2 is new in frame 1, partly hidden, then hidden, then lost."""
    front = result_of(1, rectangle(20, 10, 40, 30), rectangle(20, 10, 40, 30), "visible")
    nothing = empty_mask(SIZE)
    partial = result_of(2, rectangle(10, 15, 20, 25), rectangle(10, 15, 30, 25), "partial")
    hidden = result_of(2, nothing, rectangle(22, 15, 38, 25), "hidden")
    lost = result_of(2, nothing, nothing, "lost")
    return [
        FrameResult((front,), ()),
        FrameResult((front, partial), ((1, 2),)),
        FrameResult((front, hidden), ((1, 2),)),
        FrameResult((front, lost), ()),
    ]


def given_of(result: FrameResult) -> dict[int, Rle]:
    return {o.track_id: encode_rle(o.visible) for o in result.objects if o.visible.area}


def write_frames(folder: Path, count: int = LENGTH, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        image = np.full((*size, 3), 60 + index % 150, np.uint8)
        cv2.imwrite(str(folder / f"{index:05d}.png"), image)
    return folder


@pytest.fixture
def frames() -> Callable[..., Path]:
    """Writes a folder of frames."""
    return write_frames


@pytest.fixture
def segmented(tmp_path: Path) -> Segmented:
    results = frame_results()
    given = [given_of(result) for result in results]
    tracklets = tuple(
        Tracklet(track_id, 7, tuple(masks.get(track_id) for masks in given), 3, {"colour": "red"})
        for track_id in (1, 2)
    )
    video = VideoEntry(7, "clip", SIZE[1], SIZE[0], LENGTH, 10.0, {"camera": "left"})
    clip = open_clip(write_frames(tmp_path / "clip"), folder_fps=10.0)
    journal = open_journal(tmp_path / "journal", "made by hand")
    for index, result in enumerate(results):
        journal.append(frame_record(video, index, index / 10, result, given[index]))
    journal.save({}, is_finished=True)
    return Segmented(ClipSource("clip", clip, video, tracklets), journal)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a real Postgres, the same one for every test."""
    if postgres_folder() is None:
        pytest.skip(MISSING)
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def job_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that the server works with: SQLite, new, and Postgres, with others' rows."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/db.sqlite3"
    else:
        url = request.getfixturevalue("postgres_url")
    database = open_database(url)
    yield database
    database.close()


@pytest.fixture
def services(client: TestClient) -> Services:
    """What the app that a module tests is made of."""
    assert isinstance(client.app, FastAPI)
    services = client.app.state.services
    assert isinstance(services, Services)
    return services
