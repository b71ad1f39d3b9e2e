export * from "./account_pb.js";
export * from "./chain_pb.js";
export * from "./distribution_pb.js";
export * from "./events_pb.js";
export * from "./statement_pb.js";
export * from "./transfer_pb.js";
