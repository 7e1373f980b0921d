"""Write a llama model of random weights: two layers, a vocabulary of bytes and printable ASCII, half a megabyte.

python make_tiny_model.py FILE [CONTEXT]

Runs in .tools/conformance. The weights come from a fixed seed, so that a sampling seed gives the same noise each time.
"""

from __future__ import annotations

import sys

import gguf
import numpy as np

EMBEDDING, HEADS, LAYERS, FEED_FORWARD, CONTEXT = 64, 4, 2, 128, 512
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def main() -> None:
    random = np.random.default_rng(7)
    vocabulary = [(b"<unk>", UNKNOWN, 0.0), (b"<s>", CONTROL, 0.0), (b"</s>", CONTROL, 0.0)]
    vocabulary += [(f"<0x{byte:02X}>".encode(), BYTE, 0.0) for byte in range(256)]
    # SentencePiece writes a space as U+2581.
    vocabulary += [(("\u2581" if code == 32 else chr(code)).encode(), NORMAL, -1.0) for code in range(32, 127)]

    writer = gguf.GGUFWriter(sys.argv[1], "llama")
    writer.add_name("tiny-random")
    writer.add_context_length(int(sys.argv[2]) if len(sys.argv) > 2 else CONTEXT)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(EMBEDDING // HEADS)
    writer.add_file_type(0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _, _ in vocabulary])
    writer.add_token_types([kind for _, kind, _ in vocabulary])
    writer.add_token_scores([score for _, _, score in vocabulary])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}\n{% endfor %}")

    def add_random(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.1).astype(np.float32))

    def add_ones(name: str) -> None:
        writer.add_tensor(name, np.ones(EMBEDDING, dtype=np.float32))

    add_random("token_embd.weight", len(vocabulary), EMBEDDING)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add_ones(f"{block}.attn_norm.weight")
        add_ones(f"{block}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add_random(f"{block}.{part}.weight", EMBEDDING, EMBEDDING)
        add_random(f"{block}.ffn_gate.weight", FEED_FORWARD, EMBEDDING)
        add_random(f"{block}.ffn_up.weight", FEED_FORWARD, EMBEDDING)
        add_random(f"{block}.ffn_down.weight", EMBEDDING, FEED_FORWARD)
    add_ones("output_norm.weight")
    add_random("output.weight", len(vocabulary), EMBEDDING)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
