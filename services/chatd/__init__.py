"""chatd: one gRPC call for every model, with nothing lost when a model endpoint misbehaves.

Reading order: ``protos/lakehouse/chatd/v1/chatd.proto`` (the contract), ``__main__`` (what is put together),
``servicer`` (the two RPCs), ``wire`` (proto to domain and back), ``completion`` (the domain), ``routes`` (who answers,
and who after it), ``endpoint`` (limit, circuit breaker and repeats around one provider), ``providers`` (the kinds of
model endpoints).
"""
