"""One crop: a person before a camera's scene, in its light, through its lens and its JPEG encoder."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from app.demo.figure import Brush, draw_figure, shade
from app.demo.people import Camera, Person, Pose, draw_pose

CANVAS = (150, 300)  # width, height in pixels on which everything is drawn before the camera resizes it
BODY = 262  # pixels from head to sole of a person of average height


def draw_crop(rng: np.random.Generator, person: Person, camera: Camera, passer_by: Person) -> Image.Image:
    """One picture of a person as this camera's detector would cut it out; sometimes a post or a passer-by hides a part."""
    pose = draw_pose(rng, camera)
    picture = _backdrop(camera, pose)
    _lay(picture, person, pose, middle=CANVAS[0] / 2)
    if rng.random() < camera.occlusion:
        _hide(rng, picture, camera, passer_by)
    lit = _light(rng, np.asarray(picture, dtype=np.float32), pose)
    return _sense(rng, Image.fromarray(lit.astype(np.uint8)), camera, pose)


def encode_jpeg(crop: Image.Image, camera: Camera) -> bytes:
    """The crop as its camera stores it."""
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=camera.jpeg_quality)
    return buffer.getvalue()


def _lay(picture: Image.Image, person: Person, pose: Pose, middle: float) -> None:
    body = BODY * person.height * pose.zoom
    brush = Brush(CANVAS, middle + pose.shift_x * CANVAS[0], CANVAS[1] * 0.96 - body + pose.shift_y * CANVAS[1], body)
    draw_figure(brush, person, pose)
    picture.paste(brush.colour, (0, 0), brush.cover)


def _backdrop(camera: Camera, pose: Pose) -> Image.Image:
    """Wall, floor and a few things of the camera's place, moved sideways by where in it the person walks."""
    picture = Image.new("RGB", CANVAS, camera.wall)
    draw = ImageDraw.Draw(picture)
    horizon = int(camera.horizon * CANVAS[1])
    draw.rectangle([0, horizon, *CANVAS], fill=camera.floor)
    things = np.random.default_rng(camera.seed)
    for _ in range(9):
        left = float(things.uniform(-1.5, 2.0) + pose.place * 1.2 - 0.6) * CANVAS[0]
        wide, high = things.uniform(8, 70), things.uniform(20, 150)
        tone = float(things.uniform(0.5, 1.45))
        base = horizon + float(things.uniform(-10, 60))
        fill = shade(camera.wall if things.random() < 0.6 else camera.floor, tone)
        draw.rectangle([left, base - high, left + wide, base], fill=fill)
    for _ in range(3):
        y = float(things.uniform(camera.horizon, 1.0)) * CANVAS[1]
        draw.line([0, y, CANVAS[0], y + float(things.normal(0, 12))], fill=shade(camera.floor, 0.8), width=2)
    return picture


def _hide(rng: np.random.Generator, picture: Image.Image, camera: Camera, passer_by: Person) -> None:
    if rng.random() < 0.5:
        left = float(rng.uniform(0.05, 0.8)) * CANVAS[0]
        post = [left, 0, left + float(rng.uniform(8, 26)), CANVAS[1]]
        ImageDraw.Draw(picture).rectangle(post, fill=shade(camera.wall, float(rng.uniform(0.5, 1.3))))
        return
    side = 1 if rng.random() < 0.5 else -1
    offset = CANVAS[0] * (0.5 + side * float(rng.uniform(0.32, 0.5)))
    _lay(picture, passer_by, draw_pose(rng, camera), middle=offset)


def _light(rng: np.random.Generator, pixels: np.ndarray, pose: Pose) -> np.ndarray:
    """Folds and patches of shade, and light from one side. Float [h, w, 3] in and out, 0..255."""
    folds = Image.fromarray(rng.normal(0, 1, (12, 6)).astype(np.float32), "F").resize(CANVAS, Image.Resampling.BICUBIC)
    across = np.linspace(-1, 1, CANVAS[0], dtype=np.float32)
    factor = (1 + 0.06 * np.asarray(folds)) * (1 + pose.light * across)[None, :]
    return np.asarray(np.clip(pixels * factor[..., None], 0, 255))


def _sense(rng: np.random.Generator, picture: Image.Image, camera: Camera, pose: Pose) -> Image.Image:
    """The detector's cut, the camera's resolution, blur, colour response and noise."""
    left, top, right, bottom = (float(rng.normal(mean, 0.03)) for mean in (0.12, 0.06, 0.12, 0.02))
    if rng.random() < 0.12:  # a box that misses the feet
        bottom += float(rng.uniform(0.05, 0.2))
    box = (left * CANVAS[0], top * CANVAS[1], (1 - right) * CANVAS[0], (1 - bottom) * CANVAS[1])
    high = max(64, round(camera.pixel_height * pose.zoom))
    wide = max(32, round(high * (box[2] - box[0]) / (box[3] - box[1])))
    crop = picture.resize((wide, high), Image.Resampling.BILINEAR, box=_inside(box))
    if camera.blur > 0.15:
        crop = crop.filter(ImageFilter.GaussianBlur(camera.blur * high / 256))
    light = np.asarray(crop, dtype=np.float32) / 255
    light = np.power(light, camera.gamma) * np.array(camera.gains, dtype=np.float32) * camera.brightness
    light = light * 255 + rng.normal(0, 1, light.shape).astype(np.float32) * camera.noise
    return Image.fromarray(np.clip(light, 0, 255).astype(np.uint8))


def _inside(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return max(0.0, box[0]), max(0.0, box[1]), min(float(CANVAS[0]), box[2]), min(float(CANVAS[1]), box[3])
