import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load
from jaxgen.errors import InputError

SHARED = Path(os.environ.get("JAXGEN_SHARED", Path(__file__).resolve().parents[3] / "shared"))
RED, CLEAR = (255, 0, 0, 255), (0, 0, 0, 0)


def save(path, color=RED, size=(4, 4), mode="RGBA", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", size, color).convert(mode)
    image.save(path, **options)


def write_metadata(folder, *rows):
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def fails(folder, message, split="train", **options):
    with pytest.raises(InputError, match=message) as error:
        load(f"folder:{folder}", split, **options)
    assert "\n" not in str(error.value)


def test_subfolders_are_the_splits_and_files_are_sorted(tmp_path):
    for number, name in enumerate(["b.png", "a.BMP", "deep/c.webp", ".hidden.png"]):
        save(
            tmp_path / "train" / name,
            (number, 0, 0, 255),
            mode="RGB",
            **({"lossless": True} if "webp" in name else {}),
        )
    save(tmp_path / "test" / "x.png", (9, 0, 0, 255), mode="RGB")
    save(tmp_path / "stray.png", mode="RGB")
    assert load(f"folder:{tmp_path}", "train+test").images[:, 0, 0, 0].tolist() == [1, 0, 2, 9]
    assert load(f"folder:{tmp_path / 'train'}", "train[1:]").images[:, 0, 0, 0].tolist() == [0, 2]
    fails(tmp_path, "no split 'validation': the splits are train, test", split="validation")


def test_channels(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", CLEAR)
    red, white, black = [255, 0, 0], [255, 255, 255], [0, 0, 0]

    def pixels(**options):
        return load(f"folder:{tmp_path}", "train", **options).images[:, 0, 0].tolist()

    assert pixels() == [[*red, 255], [*black, 0]]
    assert pixels(image_shape=(4, 4, 3)) == [red, white]
    assert pixels(image_shape=(4, 4, 1)) == [[round(0.299 * 255)], [255]]
    fails(tmp_path, "1, 3 or 4 channels, not 2", image_shape=(4, 4, 2))


def test_the_first_image_decides_without_an_image_shape(tmp_path):
    save(tmp_path / "a.png", mode="L")
    save(tmp_path / "b.png", CLEAR)
    images = load(f"folder:{tmp_path}", "train").images
    assert images.shape == (2, 4, 4, 1) and images[1].min() == 255


def test_string_labels_are_numbered_over_all_splits(tmp_path):
    for name in ("train/a.png", "train/b.png", "test/c.png"):
        save(tmp_path / name)
    write_metadata(
        tmp_path / "train",
        {"file_name": "b.png", "label": "owl", "text": "an owl"},
        {"file_name": "a.png", "label": "elk"},
    )
    write_metadata(tmp_path / "test", {"file_name": "c.png", "label": "fox"})
    train, test = load(f"folder:{tmp_path}", "train"), load(f"folder:{tmp_path}", "test")
    assert train.labels.tolist() == [0, 2] and test.labels.tolist() == [1]
    assert train.num_classes == test.num_classes == 3 and train.labels.dtype == np.int32
    assert train.texts == ("", "an owl") and test.texts is None
    assert load(f"folder:{tmp_path}", "test+train").texts == ("", "", "an owl")


def test_integer_labels_are_kept(tmp_path):
    save(tmp_path / "a.png")
    write_metadata(tmp_path, {"file_name": "a.png", "label": 6})
    source = load(f"folder:{tmp_path}", "train")
    assert source.labels.tolist() == [6] and source.num_classes == 7


def test_without_metadata_there_are_no_labels(tmp_path):
    save(tmp_path / "a.png")
    source = load(f"folder:{tmp_path}", "train")
    assert source.labels is None and source.texts is None and source.num_classes == 0


def test_images_that_cannot_be_used_are_named(tmp_path):
    save(tmp_path / "a.png", size=(4, 4))
    save(tmp_path / "b.png", size=(5, 3))
    fails(tmp_path, r"b\.png: is 3x5 \(height x width\), expected 4x4")
    fails(tmp_path, r"a\.png: is 4x4 \(height x width\), expected 3x5", image_shape=(3, 5, 4))

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:2000])
    fails(tmp_path, r"b\.png: cannot be read as an image .*repair or remove", image_shape=(4, 4, 3))
    (tmp_path / "b.png").write_text("not an image")
    fails(tmp_path, r"b\.png: cannot be read as an image")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "b.png")
    fails(tmp_path, r"b\.png: has more than 8 bits a channel")


def test_folders_without_images(tmp_path):
    fails(tmp_path / "none", "there is no such folder")
    fails(tmp_path, "there is no image in it")
    save(tmp_path / "train" / "a.png")
    (tmp_path / "test").mkdir()
    fails(tmp_path, "split 'test' is empty", split="test")


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", r"metadata\.jsonl:2: is not JSON"),
        ("[]", r"metadata\.jsonl:2: expected an object like"),
        ('{"text": "x"}', r"metadata\.jsonl:2: expected an object like"),
        (
            '{"file_name": "c.png"}',
            r"metadata\.jsonl:2: names 'c\.png', but there is no such image",
        ),
        ('{"file_name": "a.png"}', r"metadata\.jsonl:2: names 'a\.png' a second time"),
        (
            '{"file_name": "b.png", "text": 1}',
            r"metadata\.jsonl:2: the text of 'b\.png' must be a string",
        ),
        (
            '{"file_name": "b.png", "label": -1}',
            r"metadata\.jsonl:2: the label of 'b\.png' must be .* got -1",
        ),
        (
            '{"file_name": "b.png", "label": 1.5}',
            r"metadata\.jsonl:2: the label of 'b\.png' must be .* got 1\.5",
        ),
        ('{"file_name": "b.png", "label": "x"}', "labels must be all strings or all integers"),
        (
            '{"file_name": "b.png"}',
            r"metadata\.jsonl: b\.png has no label although other images do",
        ),
    ],
)
def test_bad_metadata(tmp_path, line, message):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "label": 0}\n' + line + "\n")
    fails(tmp_path, message)


def test_real_sprites():
    root = SHARED / "data" / "sprites"
    if not root.is_dir():
        pytest.skip(f"no sprites in {root} (set JAXGEN_SHARED)")
    source = load(f"folder:{root}", "test", image_shape=(32, 32, 3))
    lines = [
        json.loads(line) for line in (root / "test" / "metadata.jsonl").read_text().splitlines()
    ]
    expected = {line["file_name"]: line for line in lines}
    names = sorted(path.name for path in (root / "test").glob("*.png"))
    assert source.texts == tuple(expected[name]["text"] for name in names)
    classes = sorted(
        {
            json.loads(line)["label"]
            for split in ("train", "test")
            for line in open(root / split / "metadata.jsonl")
        }
    )
    assert [classes[label] for label in source.labels] == [
        expected[name]["label"] for name in names
    ]
    # Compositing on white, with floats.
    pixels = np.asarray(Image.open(root / "test" / names[7]).convert("RGBA"), float)
    alpha = pixels[..., 3:] / 255
    assert np.abs(source.images[7] - (alpha * pixels[..., :3] + (1 - alpha) * 255)).max() <= 1
