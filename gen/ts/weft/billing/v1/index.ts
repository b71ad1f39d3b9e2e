export * from "./events_pb.js";
export * from "./profile_pb.js";
