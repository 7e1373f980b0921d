// One session from Node: ask, show what the gate said, and on a fault say why and whether to try again.
//
//   node main.js [address]
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import protobuf from "protobufjs";

const protos = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "protos");
const definition = loader.loadSync("lakehouse/iterate/v1/iterate.proto", {
  includeDirs: [protos],
  keepCase: true, // the protos' own names
  enums: String,
  longs: Number,
  oneofs: true,
});
const { lakehouse } = grpc.loadPackageDefinition(definition);

const address = process.argv[2] ?? "127.0.0.1:50051";
const client = new lakehouse.iterate.v1.IterateService(address, grpc.credentials.createInsecure());

const request = {
  kind: "fill",
  fill: { role: "forklift operator", count: 3, city: "Toledo", state: "OH" },
  prompt: "Fill 3 forklift operators in Toledo for Saturday.",
  // Empty: the default. Named by the environment to show what a fault looks like.
  provider: process.env.PROVIDER ?? "",
};
// The session joins the trace of this name; 32 hex digits or a UUID are taken as they are.
const metadata = new grpc.Metadata();
metadata.set("x-lakehouse-trace-id", "order-4711");

const call = client.Iterate(request, metadata, { deadline: Date.now() + 60_000 }, (error, response) => {
  client.close();
  process.exitCode = error ? fault(error) : outcome(response);
});
call.on("metadata", (header) => console.log("trace:", ...header.get("x-lakehouse-trace-id")));

function outcome(response) {
  console.log("session:", response.session_id);
  for (const attempt of response.attempts ?? []) {
    console.log("attempt", attempt.iteration, attempt.verdict);
    for (const finding of attempt.findings ?? []) console.log(" ", finding.code, finding.path, finding.message);
  }
  if (response.outcome === "accepted") {
    console.log("accepted:", response.accepted.artifact_json);
    return 0;
  }
  console.log("not accepted");
  return 1;
}

// What a status carries: a reason for machines, and how long to wait where waiting helps.
function fault(error) {
  console.error(grpc.status[error.code], error.details);
  const [status] = error.metadata.get("grpc-status-details-bin");
  for (const { type_url, value } of status ? details.Status.decode(status).details : []) {
    switch (type_url) {
      case "type.googleapis.com/google.rpc.ErrorInfo": {
        const info = details.ErrorInfo.decode(value);
        console.error("reason:", info.reason, "session:", info.metadata.session_id ?? "");
        break;
      }
      case "type.googleapis.com/google.rpc.BadRequest":
        for (const each of details.BadRequest.decode(value).field_violations)
          console.error("field:", each.field, each.description);
        break;
      case "type.googleapis.com/google.rpc.RetryInfo": {
        const delay = details.RetryInfo.decode(value).retry_delay;
        console.error("try again after", Number(delay.seconds) + delay.nanos / 1e9, "s");
        break;
      }
    }
  }
  return 3;
}

// What of google/rpc/status.proto and error_details.proto is read here.
const details = protobuf.parse(
  `syntax = "proto3";
   message Any { string type_url = 1; bytes value = 2; }
   message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
   message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
   message FieldViolation { string field = 1; string description = 2; }
   message BadRequest { repeated FieldViolation field_violations = 1; }
   message Duration { int64 seconds = 1; int32 nanos = 2; }
   message RetryInfo { Duration retry_delay = 1; }`,
  { keepCase: true },
).root;
for (const name of ["Status", "ErrorInfo", "BadRequest", "RetryInfo"]) details[name] = details.lookupType(name);
