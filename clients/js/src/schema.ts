/** The gRPC services as protobuf.js describes them; the build writes what stands here. */
const schema: Record<string, unknown> = {};
export default schema;
