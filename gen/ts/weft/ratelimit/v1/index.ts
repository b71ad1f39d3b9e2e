export * from "./events_pb.js";
export * from "./ratelimit_pb.js";
