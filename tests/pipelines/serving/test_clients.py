"""The endpoint as the libraries meet it that people use it from: each in an environment of its own,
installed from the registries. MOMO_TEST_CLIENTS names a folder that keeps them for the next run."""

import base64
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from momo_platform.serving import Limits
from pipelines.serve import deploy

PACKAGES = (
    "langchain-openai==1.7.4",
    "llama-index-embeddings-openai==0.7.0",
    "chromadb==1.5.9",
    "litellm==1.110.2",
)
NPM = "openai@6.49.0"
# What they call home for would slow them down and is not tested.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "ANONYMIZED_TELEMETRY": "False"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def clients(tmp_path_factory):
    """A folder with `venv` and `node_modules`."""
    kept = os.environ.get("MOMO_TEST_CLIENTS")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("clients")
    if not (folder / "venv").exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = folder / "venv" / "bin" / "pip"
        subprocess.run([pip, "install", "-q", *PACKAGES], check=True, timeout=600)
    if not (folder / "node_modules").exists():
        npm = ["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", NPM]
        subprocess.run(npm, check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def roomy(endpoint):
    """The address of the endpoint with the limits that people get."""
    options, url = endpoint
    deploy(replace(options, limits=Limits()))
    return url + "/v1"


@pytest.fixture
def asked(clients, roomy):
    """What a script prints as JSON; its arguments are the endpoint's address, `more` as JSON."""

    def run(code, more=None):
        folder, words = clients, [roomy, json.dumps(more)]
        command = [folder / "venv" / "bin" / "python", "-c", "import json, sys\n" + code, *words]
        if code.startswith("import OpenAI"):
            file = folder / "script.mjs"
            file.write_text(code)
            command = ["node", file, *words]
        env = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"} | QUIET
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


LANGCHAIN = """
from langchain_openai import OpenAIEmbeddings
url, texts = sys.argv[1], json.loads(sys.argv[2])
given = dict(base_url=url, api_key="none", model="momo-1")
try:  # what it sends by itself; the file that its tokenizer fetches may be out of reach
    OpenAIEmbeddings(**given).client.create(model="momo-1", input=[[64, 2579], [23149]])
    told = "none"
except Exception as error:
    told = f"{type(error).__name__} {error}"
client = OpenAIEmbeddings(**given, check_embedding_ctx_length=False)
short = OpenAIEmbeddings(**given, check_embedding_ctx_length=False, dimensions=8)
print(json.dumps([told, client.embed_documents(texts), short.embed_query(texts[0])]))
"""


def test_langchain_sends_a_thousand_texts_and_is_told_about_token_ids(asked, direct):
    texts = [f"a red apple {'tree ' * (n % 5)}" for n in range(1000)]
    told, vectors, short = asked(LANGCHAIN, texts)
    assert "BadRequestError" in told
    assert "check_embedding_ctx_length=False" in told
    expected = direct.embed(texts=texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    first = expected[0, :8] / np.linalg.norm(expected[0, :8])
    np.testing.assert_allclose(short, first, atol=1e-5)


LLAMA_INDEX = """
from llama_index.embeddings.openai import OpenAIEmbedding
url, texts = sys.argv[1], json.loads(sys.argv[2])
client = OpenAIEmbedding(
    model_name="momo-1", api_base=url, api_key="none", embed_batch_size=2048
)
print(json.dumps(client.get_text_embedding_batch(texts)))
"""
CHROMADB = """
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction
url, texts = sys.argv[1], json.loads(sys.argv[2])
client = OpenAIEmbeddingFunction(api_key="none", api_base=url, model_name="momo-1")
print(json.dumps([row.tolist() for row in client(texts)]))
"""


@pytest.mark.parametrize("code", [LLAMA_INDEX, CHROMADB], ids=["llama-index", "chromadb"])
def test_2048_texts_in_one_request(asked, direct, code):
    texts = [f"two blue cats {'in a room ' * (n % 3)}" for n in range(2048)]
    vectors = asked(code, texts)
    np.testing.assert_allclose(vectors, direct.embed(texts=texts), atol=1e-5)


LITELLM = """
import litellm
url, picture = sys.argv[1], json.loads(sys.argv[2])
given = dict(model="openai/momo-1", api_base=url, api_key="none")
answer = litellm.embedding(input=["a red apple", picture], **given)
given["allowed_openai_params"] = ["dimensions"]
small = litellm.embedding(input=["a red apple"], dimensions=8, **given)
ranked = litellm.rerank(
    model="hosted_vllm/momo-1", api_base=url.removesuffix("/v1"), api_key="none",
    query="a red apple", documents=["two blue cats", "a red apple"], top_n=1,
)
try:
    litellm.embedding(input=["a"], **(given | {"model": "openai/other"}))
    told = "none"
except litellm.NotFoundError as error:
    told = str(error)
vectors = [row["embedding"] for row in answer.data]
print(json.dumps([vectors, len(small.data[0]["embedding"]), ranked.results, told]))
"""


def data_uri(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_litellm_embeds_pictures_by_data_uri_and_reranks(asked, direct, noise):
    vectors, small, ranked, told = asked(LITELLM, data_uri(noise(3)))
    expected = [direct.embed(texts=["a red apple"])[0], direct.embed(images=[noise(3)])[0]]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert small == 8
    assert [row["index"] for row in ranked] == [1]
    assert ranked[0]["relevance_score"] == pytest.approx(1, abs=1e-5)
    assert "serves momo-1 only" in told


OPENAI_JS = """import OpenAI from "openai";
const [baseURL, more] = process.argv.slice(2);
const picture = JSON.parse(more);
const client = new OpenAI({ baseURL, apiKey: "none" });
const card = await client.models.retrieve("momo-1");
const given = { model: card.id, input: ["a red apple", picture], dimensions: 8 };
const vectors = (await client.embeddings.create(given)).data.map((row) => row.embedding);
const part = { type: "image_url", image_url: { url: picture } };
const body = { model: card.id, messages: [{ role: "user", content: [part] }] };
const chat = await client.post("/embeddings", { body });
let told = null;
try {
  await client.embeddings.create({ ...given, dimensions: 2500 });
} catch (error) {
  told = [error.constructor.name, error.status, error.code, error.param, error.message];
}
console.log(JSON.stringify([card.max_tokens, vectors, chat.data[0].embedding, told]));
"""


def test_openai_for_javascript_reads_models_pictures_and_errors(asked, direct, noise):
    most, vectors, chat, told = asked(OPENAI_JS, data_uri(noise(4)))
    assert most == direct.text_length
    expected = np.stack(
        [direct.embed(texts=["a red apple"])[0], direct.embed(images=[noise(4)])[0]]
    )
    np.testing.assert_allclose(chat, expected[1], atol=1e-5)
    expected = np.stack(expected)[:, :8]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    kind, status, code, param, message = told
    assert (kind, status, code, param) == ("BadRequestError", 400, "invalid_request", "dimensions")
    assert "vectors have 24" in message
