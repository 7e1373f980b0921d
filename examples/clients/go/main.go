// One session from Go: ask, show what the gate said, and on a fault say why and whether to try again.
//
//	go run . [address]
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	iteratev1 "lakehouse/iterate/v1"
	validatedv1 "lakehouse/validated/v1"
)

func main() {
	address := "127.0.0.1:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer connection.Close()
	os.Exit(run(iteratev1.NewIterateServiceClient(connection)))
}

func run(client iteratev1.IterateServiceClient) int {
	request := &iteratev1.IterateRequest{
		Kind: "fill",
		Spec: &iteratev1.IterateRequest_Fill{Fill: &validatedv1.FillSpec{
			Role: "forklift operator", Count: 3, City: "Toledo", State: "OH",
		}},
		Prompt: "Fill 3 forklift operators in Toledo for Saturday.",
		// Empty: the default. Named by the environment to show what a fault looks like.
		Provider: os.Getenv("PROVIDER"),
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	// The session joins the trace of this name; 32 hex digits or a UUID are taken as they are.
	ctx = metadata.AppendToOutgoingContext(ctx, "x-lakehouse-trace-id", "order-4711")

	var header metadata.MD
	response, err := client.Iterate(ctx, request, grpc.Header(&header))
	if err != nil {
		return fault(err)
	}
	fmt.Println("trace:", header.Get("x-lakehouse-trace-id"), "session:", response.GetSessionId())
	for _, attempt := range response.GetAttempts() {
		fmt.Println("attempt", attempt.GetIteration(), attempt.GetVerdict())
		for _, finding := range attempt.GetFindings() {
			fmt.Println(" ", finding.GetCode(), finding.GetPath(), finding.GetMessage())
		}
	}
	if accepted := response.GetAccepted(); accepted != nil {
		fmt.Println("accepted:", accepted.GetArtifactJson())
		return 0
	}
	fmt.Println("not accepted")
	return 1
}

// fault says what a status carries: a reason for machines, and how long to wait where waiting helps.
func fault(err error) int {
	failure := status.Convert(err)
	fmt.Fprintln(os.Stderr, failure.Code(), failure.Message())
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Fprintln(os.Stderr, "reason:", detail.GetReason(), "session:", detail.GetMetadata()["session_id"])
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fmt.Fprintln(os.Stderr, "field:", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.RetryInfo:
			fmt.Fprintln(os.Stderr, "try again after", detail.GetRetryDelay().AsDuration())
		}
	}
	return 3
}
