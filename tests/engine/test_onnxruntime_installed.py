import onnxruntime

from trtserve.engine.onnxruntime_installed import CPU, CUDA, providers, version


def test_the_one_that_is_installed():
    assert version() == onnxruntime.__version__
    assert (CUDA in providers()) == (CUDA in onnxruntime.get_available_providers())
    assert CPU in providers()


def test_one_for_cuda(tmp_path):
    assert providers(tmp_path) == (CPU,)
    assert version(tmp_path) == ""
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi/libonnxruntime_providers_cuda.so").touch()
    (tmp_path / "capi/build_and_package_info.py").write_text(
        "package_name = 'onnxruntime-gpu'\n__version__ = '1.31.1'\ncuda_version = '13.0'\n"
    )
    assert providers(tmp_path) == (CUDA, CPU)
    assert version(tmp_path) == "1.31.1"
