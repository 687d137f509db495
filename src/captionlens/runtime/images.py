"""Reading and preprocessing of photographs, shared by extraction, training, captioning and the server."""

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps

from captionlens.errors import OptionError, UnreadableImage
from captionlens.runtime.raw import is_raw, read_preview

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
MAX_PIXELS = 100_000_000  # a 100-megapixel photograph decodes to 300 MB

ImageSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8]

# Brands of the file type box (ISO/IEC 14496-12, 4.3) of HEIF files with HEVC pictures (ISO/IEC 23008-12, annex B).
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
_HEADER = 64  # bytes; a file type box is seldom longer

# warnings.catch_warnings changes the whole process: two threads inside it at once would make its changes permanent.
_OPENING = threading.Lock()

_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def describe_source(source: ImageSource) -> str:
    """Name of a photograph in messages: its path, or the kind of object it is."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    if isinstance(name, str) and name:
        return name
    return f"<{type(source).__name__}>"


def read_image(
    source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS, draft_size: int | None = None
) -> Image.Image:
    """Read a photograph as upright RGB.

    EXIF orientation is applied. Colours of an embedded ICC profile become those of sRGB. Transparency is laid over
    white. Grey, palette, CMYK and 16-bit pictures are converted. The first frame of an animation is taken, and of a
    camera's raw file the largest preview in it.

    Args:
        source: a path, the bytes of a file, a file object, a PIL image, or a uint8 array (H, W, 3) or (H, W).
        name: of the photograph in errors; by default its path, or the kind of object it is.
        max_pixels: larger pictures are refused before they are decoded.
        draft_size: side in pixels where a small picture will do: a JPEG is then decoded at the smallest of its
            built-in scales that is at least this large.

    Returns:
        A PIL image of mode RGB.

    Raises:
        UnreadableImage: the picture cannot be read; the message names file and cause.
    """
    name = describe_source(source) if name is None else name
    try:
        if isinstance(source, np.ndarray):
            image = _from_array(source, name)
        elif isinstance(source, Image.Image):
            image = source
        else:
            image = _open(source, name, max_pixels, draft_size)
        _check_pixels(image, name, max_pixels)
        return _to_rgb(_in_srgb(ImageOps.exif_transpose(image)))
    except UnreadableImage:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadableImage(name, _reason(error)) from error


def _open(
    source: str | os.PathLike[str] | bytes | IO[bytes], name: str, max_pixels: int, draft_size: int | None
) -> Image.Image:
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        raise UnreadableImage(name, "is a folder, not a photograph")
    if source == b"" or (isinstance(source, str | os.PathLike) and _is_empty_file(source)):
        raise UnreadableImage(name, "is empty")
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with _opened(file) as beginning:
        raw, heif = is_raw(beginning), _is_heif(beginning.read(_HEADER), name)
    orientation = None
    if raw:
        preview, orientation = read_preview(file, name)
        file = io.BytesIO(preview)
    # Pillow warns of sizes that MAX_PIXELS refuses anyway, and of odd but harmless metadata.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file, formats=(*FORMATS, "HEIF") if heif else FORMATS)
    with image:  # the block's end closes the file; the pixels stay
        _check_pixels(image, name, max_pixels)
        if draft_size is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (draft_size, draft_size))
        image.load()
    if orientation is not None:
        image.getexif().setdefault(ExifTags.Base.Orientation, orientation)
    return image


@contextmanager
def _opened(file: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    """A file to look into; a file object stands afterwards where it stood."""
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as opened:
            yield opened
    else:
        begin = file.tell()
        yield file
        file.seek(begin)


def _is_heif(header: bytes, name: str) -> bool:
    """Whether a file is HEIF, by its beginning; Pillow can then open it.

    Raises:
        UnreadableImage: it is, and the package that decodes it is not installed.
    """
    length = int.from_bytes(header[:4], "big")
    brands = {header[8:12]} | {header[at : at + 4] for at in range(16, min(length, len(header)), 4)}
    if header[4:8] != b"ftyp" or not brands & _HEIF_BRANDS or b"avif" in brands:
        return False
    try:
        import pi_heif
    except ImportError:
        cause = "is HEIC, which another package decodes: pip install 'captionlens[heif]'"
        raise UnreadableImage(name, cause) from None
    pi_heif.register_heif_opener(thumbnails=False)
    return True


def _is_empty_file(path: str | os.PathLike[str]) -> bool:
    try:
        return Path(path).is_file() and Path(path).stat().st_size == 0
    except OSError:  # reported when it is opened
        return False


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not a photograph of an allowed format"
    if isinstance(error, Image.DecompressionBombError):
        return f"too many pixels ({text})"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return f"truncated file ({text})"
    if isinstance(error, OSError):
        return error.strerror or text
    if isinstance(error, ValueError | SyntaxError):
        return text
    return f"damaged ({type(error).__name__}: {error})"


def _check_pixels(image: Image.Image, name: str, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels == 0:
        raise UnreadableImage(name, "has no pixels")
    if pixels > max_pixels:
        raise UnreadableImage(name, f"{image.width}x{image.height} is more than {max_pixels} pixels")


def _from_array(array: NDArray[np.uint8], name: str) -> Image.Image:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or array.size == 0:
        raise UnreadableImage(name, f"want uint8 (H, W, 3), got {array.dtype} {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def _in_srgb(image: Image.Image) -> Image.Image:
    """Convert the colours of a picture from those of its ICC profile to sRGB; a profile that is damaged is ignored."""
    profile = image.info.get("icc_profile")
    # Nearly all profiles are sRGB's, which says so; a picture with a palette or transparency seldom has another.
    if not profile or image.mode not in ("RGB", "CMYK") or b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile:
        return image
    with suppress(ImageCms.PyCMSError, OSError):
        transform = _transform(profile, image.mode)
        if transform is not None:
            return ImageCms.applyTransform(image, transform) or image
    return image


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None: the profile is of another kind of picture."""
    theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if theirs.profile.xcolor_space.strip() != mode:
        return None
    return ImageCms.buildTransform(theirs, ImageCms.createProfile("sRGB"), mode, "RGB")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_eight_bits(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Scale a grey picture deeper than 8 bits: 16-bit integers by 1/257, floats in [0, 1] by 255."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        scale = 255.0 if values.max(initial=0.0, where=np.isfinite(values)) <= 1.0 else 1.0
        values = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0) * scale
    elif image.mode.startswith("I;16") or values.max() > 255:
        values = values / 257.0
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing for a backbone: resize to a square, then `(value / 255 - mean) / std` per channel.

    The whole photograph is resized without cropping, as the tutorial does, so that the grid covers all of it and a
    cell of the attention map is a rectangle of the photograph.
    """

    size: int  # of a side, in pixels
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"  # or "bicubic"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise OptionError(f"size must be at least 1 pixel, got {self.size}")
        if self.interpolation not in _INTERPOLATIONS:
            known = sorted(_INTERPOLATIONS)
            raise OptionError(f"interpolation must be one of {known}, got {self.interpolation!r}")
        if min(self.std) <= 0:
            raise OptionError(f"std must be above 0, got {self.std}")

    def read(self, source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Read a photograph as uint8 (size, size, 3); large JPEGs are decoded at a fraction of their size.

        Raises:
            UnreadableImage: see `read_image`.
        """
        # Twice the final size: a picture reduced by the JPEG decoder alone would be slightly blurred.
        return self.resize(read_image(source, name=name, max_pixels=max_pixels, draft_size=2 * self.size))

    def resize(self, image: Image.Image, box: tuple[float, float, float, float] | None = None) -> NDArray[np.uint8]:
        """Resize a picture of mode RGB to uint8 (size, size, 3).

        Args:
            image: the picture.
            box: left, top, right, bottom of the part to take, in pixels; None: all of it.
        """
        if box is not None or image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), _INTERPOLATIONS[self.interpolation], box)
        return np.asarray(image)

    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Factor and summand of each channel that amount to the normalisation: float32 (3,) each."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise uint8 (..., H, W, 3) to float32 (..., 3, H, W)."""
        scale, shift = self.scale_and_shift()
        values = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")  # (..., 3, H, W)
        values *= scale[:, None, None]
        values += shift[:, None, None]
        return values

    def apply(self, image: Image.Image) -> NDArray[np.float32]:
        """Resize and normalise a picture of mode RGB to float32 (3, size, size)."""
        return self.normalise(self.resize(image))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`."""
        r, g, b = values["mean"]
        sr, sg, sb = values["std"]
        return cls(int(values["size"]), (r, g, b), (sr, sg, sb), values.get("interpolation", "bilinear"))


ImageFile.LOAD_TRUNCATED_IMAGES = False  # a truncated photograph is an error, whatever another library has set
