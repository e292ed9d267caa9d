"""SAM-2-family models as a pair of ONNX files: an image encoder and a prompt and mask decoder.

The encoder sees a frame once; the decoder is asked once an object, with points, box corners and,
where the export has it, the mask as it was. Exports differ in names, ranks and types; what the
decoder states is what it is fed.

Source: Ravi et al., SAM 2, 2024; the interfaces of samexporter, of onnxruntime's
``transformers.models.sam2`` and of the ``transformers`` exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.errors import ModelError
from amodal_model.masks import BoxedMask
from amodal_model.segmenter_graph import FLOATS, WHOLES, Graph, Tensor
from amodal_model.segmenter_image import InputFit, fit_image, image_input
from amodal_model.segmenter_settings import SegmenterSettings

FEATURES = ("embedding", "features_0", "features_1")
OPTIONAL = ("mask_input", "has_mask", "boxes", "frame_size")
MASK_LOGIT = 10.0
"""Logit of a mask that is given; SAM 2 itself scales its mask prompts to 10 and -10."""
BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT, PADDING = 0, 1, 2, 3, -1
"""Labels of points, as the decoders number them."""
MAX_CANDIDATES = 16


class Encoded(NamedTuple):
    """A frame as the decoder wants it.

    Attributes:
        features: by input name of the decoder.
        fit: where the frame lies in the encoder's input.
    """

    features: Mapping[str, np.ndarray]
    fit: InputFit


class Hint(NamedTuple):
    """What the decoder is asked for, in frame pixels.

    Attributes:
        points: (N, 2) x, y; a box is its two corners.
        labels: (N,) what each point is.
        mask: about the mask that is looked for; ``None`` where nothing is known.
    """

    points: Float32[np.ndarray, "N 2"]
    labels: Float32[np.ndarray, " N"]
    mask: BoxedMask | None


class Answer(NamedTuple):
    """What the decoder takes the object to be.

    Attributes:
        grids: (M, h, w) logits of each candidate over the encoder's input.
        scores: (M,) predicted IoU of each.
    """

    grids: Float32[np.ndarray, "M h w"]
    scores: Float32[np.ndarray, " M"]


class Sam2Pair:
    """Runs an encoder and a decoder.

    Args:
        settings: of kind ``sam2``.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: a model cannot be loaded, lacks a tensor, or the two do not fit together.
    """

    def __init__(self, settings: SegmenterSettings) -> None:
        self._settings = settings
        self._names = settings.tensors
        self.encoder = Graph(settings.models["encoder"], settings)
        self.decoder = Graph(settings.models["decoder"], settings)
        self._image = image_input(self.encoder, self._names["image"], settings)
        if self._image.size is None:
            raise ModelError(f"{self.encoder.path}: a SAM 2 encoder needs one input_size")
        self.encoder.refuse_others((self._names["image"],))
        self._features = {
            self._names[role]: self._feature(role) for role in FEATURES if self._names[role]
        }
        self._check_decoder()
        self._mask = self._optional("mask_input", FLOATS, "B 1 h w")

    def _feature(self, role: str) -> Tensor:
        name = self._names[role]
        given = self.encoder.output(name, FLOATS, "1 C h w")
        taken = self.decoder.input(name, FLOATS, "B C h w")
        for one, other in zip(given.shape[1:], taken.shape[1:], strict=False):
            if one is not None and other is not None and one != other:
                raise ModelError(
                    f"{self.decoder.path}: input {taken}, the encoder's output {given}"
                )
        return taken

    def _check_decoder(self) -> None:
        names, decoder = self._names, self.decoder
        numbers = (*FLOATS, *WHOLES)
        self._coords = decoder.input(names["point_coords"], numbers, "B N 2", "B 1 N 2")
        self._labels = decoder.input(names["point_labels"], numbers, "B N", "B 1 N")
        self._has_mask = self._optional("has_mask", numbers, "B")
        self._boxes = self._optional("boxes", numbers, "B N 4")
        self._size = self._optional("frame_size", numbers, "2")
        # logits where the export has them beside the masks that it makes of them
        has_logits = names["low_res_masks"] in decoder.outputs
        self._grids = names["low_res_masks" if has_logits else "masks"]
        decoder.output(self._grids, (*FLOATS, "bool"), "B M h w", "B 1 M h w", "1 B M h w")
        decoder.output(names["scores"], FLOATS, "B M", "B 1 M", "1 B M")
        fed = (*FEATURES, "point_coords", "point_labels", *OPTIONAL)
        decoder.refuse_others([names[role] for role in fed])

    def _optional(self, role: str, dtypes: tuple[str, ...], shape: str) -> Tensor | None:
        name = self._names[role]
        return self.decoder.input(name, dtypes, shape) if name in self.decoder.inputs else None

    def encode(self, image: UInt8[np.ndarray, "H W 3"]) -> Encoded:
        """Return a frame as the decoder wants it.

        Raises:
            ModelError: the encoder fails.
        """
        fit, feed = fit_image(image, self._image, self._settings)
        arrays = self.encoder.run(feed, *self._features)
        features = zip(self._features.items(), arrays, strict=True)
        return Encoded({name: array.astype(t.dtype) for (name, t), array in features}, fit)

    def decode(self, encoded: Encoded, hint: Hint) -> Answer:
        """Return what a hint points at.

        Raises:
            ModelError: the decoder fails, or what comes out does not fit together.
        """
        feed = {**encoded.features, **self._prompt_feed(encoded, hint)}
        names = (self._grids, self._names["scores"])
        masks, scores = self.decoder.run(feed, *names)
        if (
            masks.ndim < 3
            or not masks.size
            or masks.size != masks[..., 0, 0].size * int(np.prod(masks.shape[-2:]))
        ):
            raise self.decoder.misfit(names[0], masks, "(1, M, h, w)")
        grids = masks.reshape(-1, *masks.shape[-2:])
        if not 1 <= len(grids) <= MAX_CANDIDATES or scores.size != len(grids):
            need = f"{len(grids)} scores, one for each mask, of at most {MAX_CANDIDATES}"
            raise self.decoder.misfit(names[1], scores, need)
        if grids.dtype == bool:
            grids = np.where(grids, MASK_LOGIT, -MASK_LOGIT)
        return Answer(grids.astype(np.float32), scores.reshape(-1).astype(np.float32))

    def _prompt_feed(self, encoded: Encoded, hint: Hint) -> dict[str, np.ndarray]:
        fit = encoded.fit
        # decoders take pixel numbers and add the half pixel to the centre themselves
        coords = fit.to_input(hint.points) - np.float32(0.5)
        labels = hint.labels
        if not len(labels):
            coords, labels = np.zeros((1, 2), np.float32), np.full(1, PADDING, np.float32)
        feed = {
            self._coords.name: _as_input(coords[None], self._coords),
            self._labels.name: _as_input(labels[None], self._labels),
        }
        if self._boxes is not None:
            feed[self._boxes.name] = np.zeros((1, 0, 4), self._boxes.dtype)
        if self._size is not None:
            # masks then cover the encoder's input, at the size at which decoders compute them
            height, width = fit.input_size
            feed[self._size.name] = np.array([height // 4, width // 4], self._size.dtype)
        if self._mask is not None:
            feed[self._mask.name] = self._mask_feed(self._mask, encoded, hint.mask)
        if self._has_mask is not None:
            feed[self._has_mask.name] = np.array([hint.mask is not None], self._has_mask.dtype)
        return feed

    def _mask_feed(self, tensor: Tensor, encoded: Encoded, mask: BoxedMask | None) -> np.ndarray:
        stated = tensor.shape[-2:] if tensor.shape else (None, None)
        embedding = encoded.features[self._names["embedding"]].shape[-2:]
        # of exports that leave it open: four times the embedding, as SAM's prompt encoder has it
        height, width = (side or 4 * own for side, own in zip(stated, embedding, strict=True))
        if mask is None:
            return np.zeros((1, 1, height, width), tensor.dtype)
        grid = input_grid(mask, encoded.fit, (height, width))
        return np.ascontiguousarray(grid[None, None], tensor.dtype)


def input_grid(mask: BoxedMask, fit: InputFit, size: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """Return a mask of the frame as logits on a grid over the model's input.

    Args:
        mask: of the frame.
        fit: where the frame lies in the input.
        size: ``(height, width)`` of the grid.
    """
    rows, columns = size
    x_scale, y_scale = columns / fit.input_size[1], rows / fit.input_size[0]
    x_step, y_step = fit.scale[0] * x_scale, fit.scale[1] * y_scale
    # frame pixel to grid pixel, both counted from their centres
    warp = np.array(
        [
            [x_step, 0, (0.5 * fit.scale[0] + fit.offset[0]) * x_scale - 0.5],
            [0, y_step, (0.5 * fit.scale[1] + fit.offset[1]) * y_scale - 0.5],
        ]
    )
    inside = cv2.warpAffine(mask.full().astype(np.float32), warp, (columns, rows))
    return np.asarray((2 * inside - 1) * MASK_LOGIT, np.float32)


def _as_input(array: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Return a batch of one prompt in the rank and type that a decoder wants."""
    # some exports have an axis for several prompts of one image
    has_prompts_axis = len(tensor.shape) == array.ndim + 1
    shaped = array[:, None] if has_prompts_axis else array
    return np.ascontiguousarray(shaped, tensor.dtype)
