"""How fast the stack is, beside the floor of its own hops and beside what people use today.

    python -m bench.stack [--rounds 5] [--seconds 3] [--only ours,floor] [--out bench]

Reading order: ``job`` (the one task that everybody does), ``endpoint`` (the model and the trace sink, both fake),
``closed_loop`` and ``load`` (who asks), ``floor`` and ``peers`` (whom we are compared with), ``variants`` (how each is
started), ``__main__`` (the run), ``report`` and ``chart`` (what is written down).
"""
