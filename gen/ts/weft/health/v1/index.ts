export * from "./events_pb.js";
export * from "./health_pb.js";
export * from "./state_pb.js";
