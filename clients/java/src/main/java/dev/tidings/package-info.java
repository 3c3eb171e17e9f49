/**
 * Publishes and follows events of a Tidings server over gRPC. Begin with {@link dev.tidings.TidingsClient}.
 *
 * <p>The generated code of all services is in {@code dev.tidings.v1}.
 */
package dev.tidings;
