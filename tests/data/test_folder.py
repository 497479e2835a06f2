import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load, open_records
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
    fails(tmp_path, r"b\.png: cannot be read as an image \(it is of no format that Pillow knows\)")
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


def read(folder, split="train", **options):
    return open_records(f"folder:{folder}", split, **options)


def grey(path, value=0, size=(4, 4), **options):
    """An image of one value, by which it is found again."""
    save(path, (value, value, value, 255), size, "L", **options)


def values(folder, split="train"):
    return load(f"folder:{folder}", split).images[:, 0, 0, 0].tolist()


def test_what_a_file_manager_hides_is_not_data(tmp_path):
    top = tmp_path / ".cache"  # the folder itself may be hidden
    grey(top / "a.png", 1)
    for name in (".ipynb_checkpoints/a.png", "cats/.thumbnails/b.png", "._a.png", "@eaDir/a.jpg"):
        grey(top / name, 9)
    grey(top / "__MACOSX" / "a.png", 9)
    write_metadata(top, {"file_name": "a.png", "label": 0})
    assert values(top) == [1] and read(top).notices == ()


def test_links_are_followed_but_not_in_circles(tmp_path):
    top, store = tmp_path / "set", tmp_path / "store"
    grey(top / "dogs" / "2.png", 2)
    grey(store / "1.png", 1)
    grey(store / "deep" / "3.png", 3)
    (top / "cats").symlink_to(store)
    (store / "again").symlink_to("deep/..")
    assert values(top) == [1, 3, 2]
    for name, target in {"loop": top, "up": "..", "dogs/cats": "../cats", "gone": "none"}.items():
        (top / name).symlink_to(target)
    (store / "back").symlink_to(top)
    assert values(top) == [1, 3, 2, 1, 3], "dogs/cats leads out of the folder as cats does"
    assert "1 without a suffix; " in read(top).notices[0] and "\n" not in read(top).notices[0]
    (tmp_path / "linked").mkdir()
    for split in ("train", "val"):
        (tmp_path / "linked" / split).symlink_to(top / "dogs")
    assert values(tmp_path / "linked", "validation")[0] == 2


def test_other_kinds_of_images_are_read_and_the_rest_is_said(tmp_path):
    kinds = ["a.gif", "b.tiff", "c.TIF", "e.JPG", "f.bmp", "g.webp"]
    for kind in kinds:
        grey(tmp_path / "train" / kind)
    grey(tmp_path / "train" / "d.jfif", format="JPEG")
    frames = [Image.new("L", (4, 4), value) for value in (7, 200)]
    frames[0].save(tmp_path / "train" / "a.gif", save_all=True, append_images=frames[1:])
    assert values(tmp_path)[0] == 7 and len(read(tmp_path)) == 7 and read(tmp_path).notices == ()
    for name in ("train/x.heic", "train/y.heic", "train/1.txt", "README", "README.md"):
        (tmp_path / name).write_text("?")
    grey(tmp_path / "eval" / "e.png")
    grey(tmp_path / "stray.png")
    (notice,) = read(tmp_path).notices
    assert "2 images beside the split folders train/, such as eval/e.png; 2 .heic, 1 .txt" in notice
    assert "\n" not in notice and "README" not in notice


@pytest.mark.parametrize("name", ["validation", "val", "valid", "dev", "Val"])
def test_names_of_the_validation_split(tmp_path, name):
    grey(tmp_path / "Train" / "a.png", 1)
    grey(tmp_path / name / "b.png", 2)
    assert values(tmp_path) == [1] and values(tmp_path, "validation") == [2]
    grey(tmp_path / "validation2" / "b.png")
    (tmp_path / "DEV" if name != "dev" else tmp_path / "val").mkdir()
    fails(tmp_path, "are both the split validation; keep one")


ROWS = [("train/0.png", 1, "one, and"), ("train/1.png", 0, ""), ("test/0.png", 1, None)]


@pytest.mark.parametrize("place", ["root", "split"])
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "labels.csv"])
@pytest.mark.parametrize("style", ["plain", "windows"])
def test_metadata_in_every_place_and_form(tmp_path, place, name, style):
    for path, value, _ in ROWS:
        grey(tmp_path / path, value)
    for folder in ("train", "test") if place == "split" else ("",):
        rows = [
            (path.removeprefix(f"{folder}/" if folder else ""), label, text)
            for path, label, text in ROWS
            if path.startswith(folder)
        ]
        if style == "windows":
            rows = [(".\\" + path.replace("/", "\\"), *rest) for path, *rest in rows]
        if name.endswith("csv"):
            quoted = [f'{path},{label},"{text or ""}"' for path, label, text in rows]
            lines = ["file_name,label,text", *quoted]
        else:
            keys = ("file_name", "label", "text")
            lines = [json.dumps(dict(zip(keys, row))) for row in rows]
        end, code = ("\r\n\r\n", "utf-8-sig") if style == "windows" else ("\n", "utf-8")
        (tmp_path / folder / name).write_bytes((end.join(lines) + end).encode(code))
    train, test = load(f"folder:{tmp_path}", "train"), load(f"folder:{tmp_path}", "test")
    assert train.labels.tolist() == train.images[:, 0, 0, 0].tolist() == [1, 0]
    assert train.texts == ("one, and", "") and test.labels.tolist() == [1]
    assert train.num_classes == 2 and read(tmp_path).notices == ()


def test_json_lines_as_other_tools_write_them(tmp_path):
    grey(tmp_path / "caf\u00e9.png")
    row = {"file_name": "cafe\u0301.png", "label": 3.0, "text": "a\u2028b"}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row, ensure_ascii=False), "utf-8")
    source = load(f"folder:{tmp_path}", "train")
    assert source.labels.tolist() == [3] and source.texts == ("a\u2028b",)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "id,label\na.png,0\n",
            r"labels\.csv:1: expected a header with file_name .*found id, label",
        ),
        ("file_name,label\na.png,0,1\n", r"labels\.csv:2: has 3 fields where the header has 2"),
        ("file_name,label\nb.png,0\n", r"labels\.csv:2: names 'b\.png', but there is no such"),
        ("file_name,label\na.png,-1\n", r"labels\.csv:2: the label of 'a\.png' must be"),
        ('file_name,label\n"a.png,0\n', r"labels\.csv:2: is not CSV"),
        ("file_name;label\na.png;1\n", r"the label of 'a\.png' is 0, but 1 in another"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    grey(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text(text)
    write_metadata(tmp_path, {"file_name": "a.png", "label": 0})
    fails(tmp_path, message)


def test_class_folders(tmp_path):
    for name in ("train/elk/a.png", "train/owl/b.png", "train/elk/c.png", "test/owl/d.png"):
        grey(tmp_path / name)
    train, test = load(f"folder:{tmp_path}", "train"), load(f"folder:{tmp_path}", "test")
    assert train.labels.tolist() == [0, 0, 1] and test.labels.tolist() == [1]
    assert train.num_classes == test.num_classes == 2
    assert load(f"folder:{tmp_path}/train", "train").labels.tolist() == [0, 0, 1]
    assert load(f"folder:{tmp_path}/test", "train").labels is None, "one folder is no class"
    write_metadata(tmp_path / "test", {"file_name": "owl/d.png", "text": "an owl"})
    assert load(f"folder:{tmp_path}", "test").labels is None, "metadata win"
    grey(tmp_path / "train" / "e.png")
    assert load(f"folder:{tmp_path}", "train").labels is None


def test_resizing_is_asked_for(tmp_path):
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (10, 0, 30, 20))  # the square in the middle
    picture.save(tmp_path / "a.png")
    fails(
        tmp_path, r"a\.png: is 20x40 .*config\.data\.resize=crop or squash", image_shape=(8, 8, 3)
    )
    cut = load(f"folder:{tmp_path}", "train", image_shape=(10, 10, 3), resize="crop").images[0]
    assert cut[:, 1:-1].min() >= 250, "Lanczos sees a little of what is beside the centre"
    flat = load(f"folder:{tmp_path}", "train", image_shape=(8, 8, 1), resize="squash").images[0]
    assert flat[:, 3:5].min() > 250 and flat[:, [0, 7]].max() < 25 and abs(flat.mean() - 127.5) < 2
    same = load(f"folder:{tmp_path}", "train", image_shape=(20, 40, 3), resize="crop").images[0]
    assert np.array_equal(same, np.asarray(picture))
    fails(tmp_path, "resize=crop needs image_shape", resize="crop")
    fails(tmp_path, "'crp' is unknown: did you mean crop", resize="crp", image_shape=(8, 8, 1))
    with pytest.raises(InputError, match="works on image files alone"):
        np.savez(tmp_path / "a.npz", images=np.zeros((1, 4, 4), np.uint8))
        load(f"npz:{tmp_path}/a.npz", "train", image_shape=(16, 16, 1), resize="crop")


def test_bad_shapes_are_refused(tmp_path):
    grey(tmp_path / "a.png")
    for shape in ((4, 4), (0, 4, 1), (2,)):
        fails(tmp_path, r"image_shape must be \(height, width, channels\)", image_shape=shape)


def test_storage_elsewhere_is_read_or_refused_in_a_line(tmp_path):
    fails("nowhere://bucket/images", "no file system for nowhere://")
    with pytest.raises(InputError, match="no file system for nowhere://"):
        load("npz:nowhere://bucket/data.npz", "train")


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
