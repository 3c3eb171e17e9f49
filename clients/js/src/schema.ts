/** The gRPC services as protobuf.js describes them; the build writes what stands here. */
export const schema: Record<string, unknown> = {};
