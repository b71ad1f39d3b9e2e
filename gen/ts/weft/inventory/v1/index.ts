export * from "./availability_pb.js";
export * from "./events_pb.js";
export * from "./location_pb.js";
export * from "./movement_pb.js";
export * from "./reservation_pb.js";
export * from "./stock_pb.js";
export * from "./stock_import_pb.js";
export * from "./transfer_pb.js";
