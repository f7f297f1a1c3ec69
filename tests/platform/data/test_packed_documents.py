"""Documents in sequences, whatever their tokenizer did before."""

from tokenizers import Tokenizer, models, pre_tokenizers

from momo_platform.data.config import MixConfig
from momo_platform.data.packing import Packer, _tokenizer


def test_documents_are_packed_whole_whatever_the_tokenizers_file_keeps():
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 1, "a": 5}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=4)
    packer = Packer(_tokenizer(tokenizer.to_str()), MixConfig({}, sequence_length=8))
    (table,) = packer.pack([["a a a", "a a"]])
    config = MixConfig({})
    first, last = config.cls_id, config.sep_id
    assert table["ids"].to_pylist() == [[first, 5, 5, 5, last, 5, 5, last]]
