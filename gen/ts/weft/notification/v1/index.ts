export * from "./events_pb.js";
export * from "./mailbox_pb.js";
export * from "./notification_pb.js";
export * from "./suppression_pb.js";
export * from "./template_pb.js";
