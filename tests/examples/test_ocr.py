"""The OCR example without a daemon: its models run in ONNX Runtime directly."""

import asyncio

import numpy as np
import onnxruntime
import pytest

from examples.ocr import images, models, pipeline
from examples.ocr.images import Drawn
from examples.ocr.load import measure
from examples.ocr.reading import Comparison, Read, compare, read_pictures
from trtserve.client import Internal, Result


class LocalModels:
    """Runs the models in this process."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = {
            name: onnxruntime.InferenceSession(str(path), options)
            for name, path in models.model_files().items()
        }
        self.failing = ""

    async def infer(self, model, inputs):
        session = self.sessions[model]
        names = [output.name for output in session.get_outputs()]
        arrays = session.run(names, inputs)
        outputs = dict(zip(names, arrays, strict=True))
        return Result(outputs, model=model, version="1", id="", receipt=None)

    async def infer_many(self, items):
        return [
            Internal("broken") if model == self.failing else await self.infer(model, inputs)
            for model, inputs in items
        ]


@pytest.fixture(scope="module")
def characters():
    return pipeline.character_list(models.rec_characters())


@pytest.fixture(scope="module")
def local_models():
    return LocalModels()


def test_every_line_of_every_page_is_read_as_it_was_drawn(local_models, characters):
    drawings = [images.draw(page) for page in images.PAGES]
    pictures = [picture for picture, _ in drawings]
    pages = asyncio.run(read_pictures(local_models, pictures, characters))
    for (_, drawn), read in zip(drawings, pages, strict=True):
        assert [line for line in compare(drawn, read) if not line.right] == []


def test_a_failed_item_ends_the_reading(characters):
    broken = LocalModels()
    broken.failing = "det"
    picture, _ = images.draw(images.PAGES[0])
    with pytest.raises(Internal, match="broken"):
        asyncio.run(read_pictures(broken, [picture], characters))


def test_the_pages_are_what_the_demo_promises():
    assert len({page.size for page in images.PAGES}) >= 6
    assert any(page.upside_down for page in images.PAGES)
    assert any(len(page.lines) > 3 for page in images.PAGES)


def test_drawing_is_deterministic():
    first, _ = images.draw(images.PAGES[0])
    second, _ = images.draw(images.PAGES[0])
    np.testing.assert_array_equal(first, second)


def test_boxes_of_a_turned_page_hold_its_ink():
    page = next(page for page in images.PAGES if page.upside_down)
    picture, drawn = images.draw(page)
    dark = picture.sum(axis=2) < 300
    for line in drawn:
        left, top, right, bottom = line.box
        assert dark[top:bottom, left:right].any()
        dark[top:bottom, left:right] = False
    assert not dark.any()


def test_text_that_does_not_fit_is_refused():
    page = images.Page("small", 50, 20, [images.Line("far too long", 0, 0, 20)])
    with pytest.raises(ValueError, match="'far too long' does not fit the page 'small'"):
        images.draw(page)


def test_the_repository_has_a_version_of_each_model(tmp_path):
    models.build_repository(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.onnx"))
    assert files == ["cls/1/model.onnx", "det/1/model.onnx", "rec/1/model.onnx"]
    assert all((tmp_path / file).stat().st_size > 100_000 for file in files)


def test_a_missing_package_is_told_with_its_cure(monkeypatch):
    monkeypatch.setattr(models, "PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps rapidocr-onnxruntime"):
        models.model_files()


def test_det_input_is_padded_scaled_and_blue_first():
    picture = np.zeros((33, 64, 3), np.uint8)
    picture[:, :, 0] = 255  # red
    tensor = pipeline.det_input(picture)
    assert tensor.shape == (1, 3, 64, 64)
    assert tensor.dtype == np.float32
    assert (tensor[0, 2] == 1).all()  # the padding repeats the edge
    assert (tensor[0, :2] == -1).all()


def probability_map(*boxes, height=100, width=200, value=0.9):
    output = np.zeros((1, 1, height, width), np.float32)
    for left, top, right, bottom in boxes:
        output[0, 0, top:bottom, left:right] = value
    return output, np.zeros((height, width, 3), np.uint8)


def test_boxes_are_found_grown_and_sorted():
    output, picture = probability_map((20, 60, 100, 70), (120, 60, 180, 70), (20, 20, 60, 28))
    # Each side grows by area x 1.6 / perimeter: 4 x (320 / 96), 7 (800 / 180), 7 (600 / 140).
    assert pipeline.det_boxes(output, picture) == [
        (15, 15, 65, 33), (13, 53, 107, 77), (113, 53, 187, 77),
    ]


def test_boxes_side_by_side_at_different_heights_are_separate():
    output, picture = probability_map((10, 10, 60, 40), (100, 30, 160, 60))
    assert len(pipeline.det_boxes(output, picture)) == 2


def test_specks_and_doubtful_boxes_are_dropped():
    output, picture = probability_map((20, 20, 60, 22))
    assert pipeline.det_boxes(output, picture) == []
    output, picture = probability_map((20, 20, 60, 40), value=0.4)
    assert pipeline.det_boxes(output, picture) == []
    output, picture = probability_map()
    assert pipeline.det_boxes(output, picture) == []


def test_boxes_stay_inside_the_picture_without_its_padding():
    output, _ = probability_map((0, 0, 200, 40), height=64, width=224)
    picture = np.zeros((40, 200, 3), np.uint8)
    assert pipeline.det_boxes(output, picture) == [(0, 0, 200, 40)]


def test_cls_input_keeps_the_aspect_or_fills_the_width():
    short = pipeline.cls_input(np.full((24, 48, 3), 255, np.uint8))
    assert short.shape == (1, 3, 48, 192)
    assert (short[..., :96] == 1).all()
    assert (short[..., 96:] == 0).all()
    long = pipeline.cls_input(np.full((24, 480, 3), 255, np.uint8))
    assert (long == 1).all()


def test_a_line_is_turned_only_when_cls_is_sure():
    line = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    same = pipeline.upright(line, np.array([[0.2, 0.8]]))
    turned = pipeline.upright(line, np.array([[0.05, 0.95]]))
    np.testing.assert_array_equal(same, line)
    np.testing.assert_array_equal(turned, line[::-1, ::-1])


@pytest.mark.parametrize(("width", "padded"), [(10, 320), (320, 320), (321, 384), (400, 448)])
def test_rec_widths_come_in_steps(width, padded):
    line = np.zeros((48, width, 3), np.uint8)
    assert pipeline.rec_input(line).shape == (1, 3, 48, padded)


def test_ctc_decoding_drops_blanks_and_repetitions():
    characters = pipeline.character_list("a\nb")
    assert characters == ["", "a", "b", " "]
    steps = [0, 1, 1, 0, 1, 2, 2, 3, 3, 0, 2]
    output = np.eye(4, dtype=np.float32)[steps][np.newaxis]
    assert pipeline.rec_text(output, characters) == "aab b"


def read(text, box):
    return Read(text, box, np.zeros(0), np.zeros(0))


def test_lines_are_compared_where_they_were_drawn():
    one, two, lost = (0, 0, 10, 10), (0, 20, 10, 30), (50, 0, 60, 9)
    drawn = [Drawn("one", one), Drawn("two", two), Drawn("lost", lost)]
    found = [read("two", (0, 19, 11, 31)), read("0ne", one), read("?", (90, 90, 99, 99))]
    comparisons = compare(drawn, found)
    assert comparisons == [
        Comparison("one", "0ne"), Comparison("two", "two"), Comparison("lost", ""),
        Comparison("", "?"),
    ]
    assert [line.right for line in comparisons] == [False, True, False, False]


class CountingClient:
    def __init__(self):
        self.shapes = []

    async def infer(self, model, inputs):
        self.shapes.append(inputs["x"].shape)


def test_the_load_takes_the_inputs_in_turn_and_reports_each_size():
    small, large = np.zeros((1, 3, 32, 32)), np.zeros((1, 3, 64, 96))
    client = CountingClient()
    rows = asyncio.run(
        measure(client.infer, "det", [large, small], requests=5, seconds=1e9, in_flight=2)
    )
    assert client.shapes == [large.shape, small.shape] * 2 + [large.shape]
    assert [(row.model, row.size, row.requests) for row in rows] == [
        ("det", "32x32", 2), ("det", "96x64", 3),
    ]
    assert all(0 <= row.p50 <= row.p99 for row in rows)


def test_the_load_ends_when_its_time_is_over():
    client = CountingClient()
    inputs = [np.zeros((1, 3, 8, 8))]
    rows = asyncio.run(measure(client.infer, "det", inputs, requests=5, seconds=-1))
    assert rows == []
