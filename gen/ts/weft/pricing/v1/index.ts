export * from "./coupon_pb.js";
export * from "./events_pb.js";
export * from "./price_list_pb.js";
export * from "./promotion_pb.js";
export * from "./promotion_settings_pb.js";
export * from "./quote_pb.js";
export * from "./redemption_pb.js";
export * from "./segment_pb.js";
