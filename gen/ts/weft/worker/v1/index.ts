export * from "./events_pb.js";
export * from "./worker_pb.js";
