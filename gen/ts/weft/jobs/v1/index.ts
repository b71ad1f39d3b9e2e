export * from "./attempt_pb.js";
export * from "./job_pb.js";
export * from "./live_pb.js";
