"""A model repository with the three OCR models of the pip package rapidocr-onnxruntime.

The package is only looked up, not imported: its code needs libraries that are not installed
here.
"""

import importlib.util
from pathlib import Path

import onnxruntime

PACKAGE = "rapidocr_onnxruntime"

FILES = {
    "det": "ch_PP-OCRv4_det_infer.onnx",
    "cls": "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "rec": "ch_PP-OCRv4_rec_infer.onnx",
}
"""Each model's name here with its file there: detection, angle, recognition."""


def model_files() -> dict[str, Path]:
    """Each model's file. Raises FileNotFoundError, with the cure, if one is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    if not folders:
        raise FileNotFoundError(
            "the OCR models are not installed; run `pip install --no-deps rapidocr-onnxruntime`"
        )
    found = {name: Path(folders[0]) / "models" / file for name, file in FILES.items()}
    for path in found.values():
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; another version of the package may have it: run "
                "`pip install --no-deps rapidocr-onnxruntime==1.4.4`"
            )
    return found


def build_repository(folder: Path) -> Path:
    """Lay out det/1, cls/1 and rec/1 in a folder, as links to the package's files."""
    for name, path in model_files().items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").symlink_to(path)
    return folder


def rec_characters() -> str:
    """The characters that rec knows, one a line: the entry `character` of its metadata.

    The inference protocol has no place for such metadata, so it is read from the file.
    """
    session = onnxruntime.InferenceSession(model_files()["rec"], providers=["CPUExecutionProvider"])
    return str(session.get_modelmeta().custom_metadata_map["character"])
