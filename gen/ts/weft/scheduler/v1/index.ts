export * from "./calendar_pb.js";
export * from "./events_pb.js";
export * from "./schedule_pb.js";
export * from "./schedule_run_pb.js";
export * from "./timing_pb.js";
export * from "./webhook_pb.js";
export * from "./workflow_pb.js";
export * from "./workflow_run_pb.js";
