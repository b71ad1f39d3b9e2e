export * from "./cart_pb.js";
export * from "./events_pb.js";
export * from "./line_pb.js";
export * from "./resource_pb.js";
