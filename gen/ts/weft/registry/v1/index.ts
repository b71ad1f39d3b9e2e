export * from "./certificate_pb.js";
export * from "./events_pb.js";
export * from "./fault_pb.js";
export * from "./instance_pb.js";
export * from "./registry_pb.js";
export * from "./rollout_pb.js";
export * from "./traffic_policy_pb.js";
export * from "./traffic_policy_rules_pb.js";
