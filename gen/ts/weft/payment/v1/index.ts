export * from "./events_pb.js";
export * from "./intent_pb.js";
export * from "./method_pb.js";
export * from "./refund_pb.js";
