export * from "./money_pb.js";
