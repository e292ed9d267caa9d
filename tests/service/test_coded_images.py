"""Sizes and pixels of frames' images: what hostile headers say is not believed."""

from __future__ import annotations

import contextlib
import struct
import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amodal_client.stream_wire import Codec
from amodal_model.errors import InputError
from amodal_service.coded_images import decode_image, image_size


def picture(height: int = 30, width: int = 41) -> np.ndarray:
    """Return noise, uint8 RGB."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (height, width, 3)).astype(np.uint8)


def coded(kind: str, image: np.ndarray, *params: int) -> memoryview:
    is_done, data = cv2.imencode(kind, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), list(params))
    assert is_done
    return memoryview(data.tobytes())


def size_of(codec: Codec, payload: bytes) -> tuple[int, int]:
    return image_size(codec, memoryview(payload), (0, 0))


@pytest.mark.parametrize("params", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_the_size_of_a_jpeg_is_in_its_header(params: tuple[int, ...]) -> None:
    payload = coded(".jpg", picture(), *params)
    assert image_size(Codec.JPEG, payload, (0, 0)) == (30, 41)
    assert decode_image(Codec.JPEG, payload, (30, 41)).shape == (30, 41, 3)


def test_a_png_comes_out_as_it_went_in() -> None:
    payload = coded(".png", picture())
    assert image_size(Codec.PNG, payload, (30, 41)) == (30, 41)
    assert np.array_equal(decode_image(Codec.PNG, payload, (30, 41)), picture())


def test_raw_pixels_are_as_many_as_the_header_says() -> None:
    image = picture(2, 3)
    payload = memoryview(image.tobytes())
    assert image_size(Codec.RGB8, payload, (2, 3)) == (2, 3)
    assert np.array_equal(decode_image(Codec.RGB8, payload, (2, 3)), image)
    for size in ((0, 0), (2, 4), (3, 2 + 2)):
        with pytest.raises(InputError, match=rf"18 bytes, {size[1]}x{size[0]} needs"):
            image_size(Codec.RGB8, payload, size)


def test_an_image_of_another_size_than_its_message_says_is_refused() -> None:
    with pytest.raises(InputError, match="image is 41x30, its message says 30x41"):
        image_size(Codec.JPEG, coded(".jpg", picture()), (41, 30))


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (Codec.JPEG, b""),
        (Codec.JPEG, b"\xff\xd8"),
        (Codec.JPEG, b"\xff\xd8\xff\xc0\x00\x11\x08"),  # cut inside the size
        (Codec.JPEG, b"\xff\xd8\xff\xe0\x00\x00" * 3),  # a segment that would never end
        (Codec.JPEG, b"\xff\xd8\xff\xe0\xff\xff"),  # a segment longer than the image
        (Codec.JPEG, b"\x89PNG\r\n\x1a\n" + bytes(40)),
        (Codec.PNG, b""),
        (Codec.PNG, b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR\x00\x00"),
        (Codec.PNG, b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dtEXt" + bytes(30)),
        (Codec.PNG, b"\xff\xd8\xff\xe0" + bytes(40)),
    ],
)
def test_a_header_that_is_none_is_refused(codec: Codec, payload: bytes) -> None:
    with pytest.raises(InputError, match=r"JPEG|PNG"):
        size_of(codec, payload)


def test_a_png_may_claim_any_size_and_nothing_is_allocated_for_it() -> None:
    lie = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + struct.pack(">II", 2**32 - 1, 2**31) + bytes(9)
    assert size_of(Codec.PNG, lie) == (2**31, 2**32 - 1)


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xd0", b"\xff\xe0\x00\x02"])
def test_a_jpeg_of_endless_markers_costs_next_to_nothing(filling: bytes) -> None:
    payload = memoryview(b"\xff\xd8" + filling * ((4 << 20) // len(filling)))
    began_s = time.thread_time()
    with pytest.raises(InputError, match="JPEG"):
        image_size(Codec.JPEG, payload, (0, 0))
    assert time.thread_time() - began_s < 0.05


def test_a_damaged_image_is_refused_where_its_pixels_are_needed() -> None:
    payload = coded(".png", picture())
    with pytest.raises(InputError, match="PNG image cannot be decoded"):
        decode_image(Codec.PNG, payload[:60], (30, 41))
    with pytest.raises(InputError, match="JPEG image cannot be decoded"):  # header of another
        decode_image(Codec.JPEG, coded(".jpg", picture()), (30, 40))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([Codec.JPEG, Codec.PNG]), st.data())
def test_bytes_that_were_changed_end_in_a_size_or_one_error(
    codec: Codec, data: st.DataObject
) -> None:
    payload = bytearray(coded(".jpg" if codec == Codec.JPEG else ".png", picture(8, 8)))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = memoryview(bytes(payload))[: data.draw(st.integers(0, len(payload)))]
    with contextlib.suppress(InputError):
        size = image_size(codec, cut, (0, 0))
        if size == (8, 8):
            assert decode_image(codec, cut, size).shape == (8, 8, 3)
