export * from "./calendar_pb.js";
export * from "./schedule_pb.js";
export * from "./schedule_run_pb.js";
export * from "./timing_pb.js";
