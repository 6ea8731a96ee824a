"""Makes pieces.json: small SentencePiece vocabularies, and how the reference library cuts texts with them.

Usage: python pieces.py > pieces.json     (needs the packages sentencepiece and protobuf, see VERSION below)

The vocabularies are trained on text.txt beside this file. `tied` has the first one's pieces with scores that many of
them share; `plain` puts no space before a text and knows no bytes.
"""

import io
import json
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

VERSION = "0.2.3"
TEXTS = [
    "",
    "Marta",
    " Marta",
    "  two  spaces   and three ",
    "The harbour office opened at six, an hour before the first ferry.",
    "tide table\nboard\n\n\tthe river",
    "héllo wörld ß Ωmega 漢字 🚢🌊",
    "zzzzqqqq 0123456789",
    "the the the theatre thethethe",
    "<s> </s> <unk> <0x41> <0xE2>",
    "a[CALL]b [CALL] harbour[CALL][CALL]",
    "\u2581marked\u2581already",
    "nul\u0000and\u0007bell",
    "officefirst ferryboat numbers numbered",
    "a" * 40 + " " * 20 + "e" * 40,
]


def train(**options) -> sentencepiece.SentencePieceProcessor:
    assert sentencepiece.__version__ == VERSION, sentencepiece.__version__
    out = io.BytesIO()
    lines = (Path(__file__).parent / "text.txt").read_text().splitlines()
    settings = dict(
        sentence_iterator=iter([line for line in lines if line]),
        model_writer=out,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        user_defined_symbols=["[CALL]"],
    )
    settings.update(options)
    sentencepiece.SentencePieceTrainer.train(**settings)
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def tied(processor: sentencepiece.SentencePieceProcessor) -> sentencepiece.SentencePieceProcessor:
    proto = model_pb2.ModelProto()
    proto.ParseFromString(processor.serialized_model_proto())
    for piece in proto.pieces:
        if piece.type == model_pb2.ModelProto.SentencePiece.NORMAL:
            piece.score = float(-(int(-piece.score) // 9))
    return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())


def described(processor: sentencepiece.SentencePieceProcessor) -> dict:
    proto = model_pb2.ModelProto()
    proto.ParseFromString(processor.serialized_model_proto())
    return {
        "space": proto.normalizer_spec.add_dummy_prefix,
        "tokens": [piece.piece for piece in proto.pieces],
        "kinds": [piece.type for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "ids": [processor.encode(text) for text in TEXTS],
        "texts": [processor.decode(processor.encode(text)) for text in TEXTS],
    }


bytes_too = train(vocab_size=560, byte_fallback=True)
plain = train(vocab_size=200, add_dummy_prefix=False)
sets = {"bytes": bytes_too, "tied": tied(bytes_too), "plain": plain}
print(json.dumps({"texts": TEXTS, "sets": {name: described(each) for name, each in sets.items()}}))
