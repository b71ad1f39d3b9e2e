export * from "./events_pb.js";
export * from "./profile_pb.js";
export * from "./tax_pb.js";
export * from "./tax_events_pb.js";
export * from "./tax_rate_pb.js";
export * from "./vat_number_pb.js";
