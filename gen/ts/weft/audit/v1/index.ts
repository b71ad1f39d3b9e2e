export * from "./audit_pb.js";
export * from "./events_pb.js";
