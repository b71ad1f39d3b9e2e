export * from "./events_pb.js";
export * from "./mailbox_pb.js";
export * from "./notification_pb.js";
