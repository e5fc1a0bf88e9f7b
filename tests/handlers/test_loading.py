import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from handlers.bge_handler import BgeHandler
from handlers.card import CardError
from handlers.devices import DeviceError
from handlers.loading import LoadError, load
from handlers.model_folder import check_folder
from handlers.sentence_handler import SentenceHandler
from handlers.tao_8k_handler import Tao8kHandler
from tests.handlers.torchserve_wire import Worker, unpack
from tests.model_folders import minilm_folder


@pytest.fixture
def folder(bge_folder: Path, tmp_path: Path) -> Path:
    """A bge-shaped folder that may be damaged."""
    return Path(shutil.copytree(bge_folder, tmp_path / "copy"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_minilm_is_known(bge_folder: Path, tao_folder: Path) -> None:
    """What the folders say of themselves is read: sizes, limits, pooling, attention."""
    minilm, bge, tao = (load(each, device="cpu", dtype="float32") for each in (minilm_folder(), bge_folder, tao_folder))

    assert (minilm.dimensions, minilm.max_tokens, minilm.vocabulary) == (384, 256, 30522)
    assert (minilm.pooling, minilm.position_limit, minilm.lower_case) == ("mean", 512, False)
    assert (bge.pooling, bge.max_tokens, bge.lower_case) == ("cls", 512, True)
    assert (tao.pooling, tao.max_tokens, tao.attention) == ("mean", 8192, "sdpa")


def test_only_the_transformer_gets_the_dtype(bge_folder: Path) -> None:
    """What follows the transformer stays in float32."""
    model = load(bge_folder, device="cpu", dtype="bfloat16")

    assert {parameter.dtype for parameter in model.transformer.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in model.transformer.parameters())


def test_float32_is_exact(bge_folder: Path) -> None:
    """TF32 is off once a model is loaded."""
    torch.set_float32_matmul_precision("high")

    load(bge_folder, device="cpu", dtype="float32")

    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("name", ["modules.json", "config.json", "sentence_bert_config.json", "1_Pooling/config.json"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    """A folder that is not complete is refused; the error names the folder."""
    (folder / name).unlink()

    with pytest.raises(LoadError, match=str(folder)):
        load(folder, device="cpu", dtype="float32")


def test_missing_weights_are_named(folder: Path) -> None:
    """Without weights there is no model, rather than a random one."""
    (folder / "model.safetensors").unlink()

    with pytest.raises(LoadError, match="safetensors"):
        load(folder, device="cpu", dtype="float32")


def test_cut_weights_are_refused(folder: Path) -> None:
    """A truncated weight file is an error that names the folder."""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])

    with pytest.raises(LoadError, match=str(folder)):
        load(folder, device="cpu", dtype="float32")


def test_a_pickle_that_runs_code_is_refused(folder: Path, tmp_path: Path) -> None:
    """pytorch_model.bin is read as weights only."""

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (folder / "model.safetensors").unlink()
    torch.save({"x": Code()}, folder / "pytorch_model.bin")

    with pytest.raises(LoadError):
        load(folder, device="cpu", dtype="float32")
    assert not (tmp_path / "ran").exists()


def test_plain_weights_are_read(folder: Path) -> None:
    """pytorch_model.bin with tensors alone serves as well as safetensors."""
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    model = load(folder, device="cpu", dtype="float32")

    name = "embeddings.word_embeddings.weight"
    assert torch.equal(weights[name], model.transformer.auto_model.state_dict()[name])


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ([{"idx": 0, "name": "0", "path": "", "type": "os.system"}], "os.system"),
        ([{"idx": 0, "name": "0", "path": "../..", "type": "sentence_transformers.models.Transformer"}], "leads out"),
        ([], "list of modules"),
        ({}, "list of modules"),
        ([1], "list of modules"),
    ],
)
def test_modules_outside_sentence_transformers_are_refused(modules: object, told: str, folder: Path) -> None:
    """modules.json names classes to import: only sentence-transformers' own are."""
    (folder / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(LoadError, match=told):
        check_folder(folder)


def test_an_activation_outside_torch_is_refused(folder: Path) -> None:
    """A Dense module names a class to call: only torch's own are."""
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    (folder / "3_Dense").mkdir()
    (folder / "3_Dense" / "config.json").write_text(json.dumps({"activation_function": "os.getcwd"}))

    with pytest.raises(LoadError, match=r"os\.getcwd"):
        check_folder(folder)


def test_a_folder_without_pooling_is_refused(folder: Path) -> None:
    """Token vectors alone are no text's vector."""
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([modules[0]]))

    with pytest.raises(LoadError, match="Pooling"):
        load(folder, device="cpu", dtype="float32")


def test_bge_takes_the_cls_vector(tao_folder: Path, tmp_path: Path) -> None:
    """A folder that pools otherwise is refused by the bge handler."""
    with pytest.raises(LoadError, match=r"CLS.*'mean'"):
        Worker(BgeHandler(), unpack(tmp_path, tao_folder, device="cpu"))


def test_tao_needs_its_positions(bge_folder: Path, tmp_path: Path) -> None:
    """A folder with 512 positions is no tao-8k."""
    with pytest.raises(LoadError, match=r"8192.*512"):
        Worker(Tao8kHandler(), unpack(tmp_path, bge_folder, device="cpu"))


def test_tao_needs_sdpa(tao_folder: Path, tmp_path: Path) -> None:
    """Where transformers falls back to eager attention, the tao handler refuses."""
    copy = Path(shutil.copytree(tao_folder, tmp_path / "copy"))
    edit(copy / "config.json", position_embedding_type="relative_key")
    weights = load_file(copy / "model.safetensors")
    distances = {f"encoder.layer.{layer}.attention.self.distance_embedding.weight" for layer in range(2)}
    weights |= dict.fromkeys(distances, torch.zeros(2 * 8192 - 1, 16))
    save_file({name: tensor.clone() for name, tensor in weights.items()}, copy / "model.safetensors")

    with pytest.raises(LoadError, match=r"'eager'.*sdpa"):
        Worker(Tao8kHandler(), unpack(tmp_path / "unpacked", copy, device="cpu"))


def test_tao_says_where_the_folder_cuts_earlier(
    tao_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A smaller max_seq_length of the folder is kept, and said."""
    copy = Path(shutil.copytree(tao_folder, tmp_path / "copy"))
    edit(copy / "sentence_bert_config.json", max_seq_length=1024)

    worker = Worker(Tao8kHandler(), unpack(tmp_path / "unpacked", copy, device="cpu"))

    assert worker.handler.facts.max_tokens == 1024
    assert "cuts at 1024 tokens" in caplog.text


def test_max_tokens_lies_below_every_limit(bge_folder: Path, folder: Path, tmp_path: Path) -> None:
    """The card's cap counts, and so do the position embeddings, whatever the folder's own setting says."""
    edit(folder / "sentence_bert_config.json", max_seq_length=100_000)

    capped = Worker(SentenceHandler(), unpack(tmp_path / "a", bge_folder, device="cpu", max_tokens=32))
    careless = Worker(SentenceHandler(), unpack(tmp_path / "b", folder, device="cpu"))

    assert (capped.handler.facts.max_tokens, careless.handler.facts.max_tokens) == (32, 512)


@pytest.mark.parametrize(
    ("card", "kind", "told"),
    [
        ({"device": "cuda"}, DeviceError, "device = 'cuda', but"),
        ({"device": "cpu", "dtype": "float16"}, DeviceError, "float16"),
        ({"device": "cpu", "max_tokens": 2}, LoadError, "max_tokens = 2"),
    ],
)
def test_a_card_that_cannot_be_served_ends_the_load(
    card: dict[str, Any],
    kind: type[Exception],
    told: str,
    bge_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The worker's log says in one line what is wrong; the error is none that TorchServe takes for an OOM."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

    with pytest.raises(kind, match=told) as caught:
        Worker(SentenceHandler(), unpack(tmp_path, bge_folder, **card))

    assert f"cannot serve tested: {caught.value}" in caplog.text
    assert not isinstance(caught.value, RuntimeError)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    """What was not packed by the kit is not served by it."""
    with pytest.raises(CardError, match=r"embedkit\.json"):
        Worker(SentenceHandler(), tmp_path)
