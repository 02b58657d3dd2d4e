from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from trtserve.cli.tensor_file import Source, make_array, parse_source, save_array
from trtserve.errors import ConfigurationError
from trtserve.model.tensor import DATATYPES, datatype_of


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("x=@a.npy", Source("x", Path("a.npy"))),
        ("x:0=@dir/b=1.npy", Source("x:0", Path("dir/b=1.npy"))),
        ("x=zeros:1x3x224x224", Source("x", None, "zeros", (1, 3, 224, 224))),
        ("x=random:5", Source("x", None, "random", (5,))),
        ("x=zeros:", Source("x", None, "zeros", ())),
    ],
)
def test_forms_that_are_understood(text, source):
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "text",
    ["x", "x=", "x=a.npy", "=@a.npy", "x=@", "x=ones:3", "x=zeros:3x", "x=zeros:x3", "x=zeros:-1"],
)
def test_other_forms_are_refused_with_those_that_are(text):
    with pytest.raises(ConfigurationError, match=r"another form.*NAME=@FILE.npy"):
        parse_source(text)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("fill", ["zeros", "random"])
def test_arrays_are_made_in_the_models_datatype(datatype, fill):
    array = make_array(Source("x", None, fill, (4, 5)), datatype)
    assert datatype_of(array) == datatype
    assert array.shape == (4, 5)
    distinct = len(set(array.reshape(-1).tolist()))
    assert distinct == 1 if fill == "zeros" else distinct > 1
    np.testing.assert_array_equal(make_array(Source("x", None, fill, (4, 5)), datatype), array)


def test_a_shape_beyond_memory_is_refused():
    with pytest.raises(ConfigurationError, match="does not fit into memory"):
        make_array(Source("x", None, "zeros", (1 << 40, 1 << 40)), "FP32")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_what_is_written_holds_the_same_values(tmp_path, datatype):
    array = make_array(Source("x", None, "random", (3, 2)), datatype)
    path = save_array(tmp_path, "x", array)
    loaded = make_array(Source("x", path), datatype)
    assert loaded.tolist() == array.tolist()


def test_numpys_own_bf16_files_are_read(tmp_path):
    array = np.arange(3).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", array)
    loaded = make_array(Source("x", tmp_path / "x.npy"), "BF16")
    np.testing.assert_array_equal(loaded, array)


def test_output_names_become_file_names(tmp_path):
    path = save_array(tmp_path / "new", "scale_0/out:0", np.zeros(1))
    assert path == tmp_path / "new" / "scale_0%2Fout%3A0.npy"
    assert path.exists()


def test_a_folder_that_can_not_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="can not be written"):
        save_array(tmp_path / "file", "x", np.zeros(1))


def test_files_that_can_not_be_used_are_told_with_the_cure(tmp_path):
    def problem(path):
        with pytest.raises(ConfigurationError) as caught:
            make_array(Source("x", path), "FP32")
        assert caught.value.cure
        return caught.value.problem

    assert "No such file" in problem(tmp_path / "none.npy")
    (tmp_path / "text.npy").write_text("not an array")
    assert "no .npy file" in problem(tmp_path / "text.npy")
    (tmp_path / "empty.npy").touch()
    assert "no .npy file" in problem(tmp_path / "empty.npy")
    np.save(tmp_path / "objects.npy", np.array([1, "a"], np.object_))
    assert "no .npy file" in problem(tmp_path / "objects.npy")
    np.savez(tmp_path / "many.npz", a=np.zeros(1), b=np.zeros(1))
    assert "several arrays" in problem(tmp_path / "many.npz")
