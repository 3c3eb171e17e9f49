// Package tidings publishes and follows events of a Tidings server over gRPC.
//
// It retries what was not answered without publishing it twice, resumes every channel after the last event, delivers
// each event once, and reports what was missed. Begin with [New].
//
// The generated code of all services is in the package tidingsv1.
package tidings
