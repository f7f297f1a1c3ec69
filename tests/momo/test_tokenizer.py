"""The trained vocabulary: equal texts give equal bytes, in every process."""

import os
import subprocess
import sys

from momo.tokenizer import SPECIAL_TOKENS, train_wordpiece

TEXTS = ["Welcome to the tokenizers library, weltokenizer", "wel come tok en izers libr ary"] * 3


def test_another_process_gives_the_same_bytes():
    code = (
        "from momo.tokenizer import train_wordpiece; "
        f"print(train_wordpiece({TEXTS!r}, 90).to_str())"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", code]
    runs = {
        subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout.strip()
        for _ in range(4)
    }
    assert runs == {train_wordpiece(TEXTS, 90).to_str()}


def test_pieces_are_no_special_tokens():
    tokenizer = train_wordpiece(TEXTS, 90)
    assert [tokenizer.token_to_id(t) for t in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert "##" not in tokenizer.decode(tokenizer.encode("tokenizers library").ids)
    assert tokenizer.encode("##a").tokens[1] == "[UNK]"  # text, not a piece
    assert tokenizer.encode("wel").tokens == ["[CLS]", "wel", "[SEP]"]
    assert tokenizer.get_vocab_size() <= 90
