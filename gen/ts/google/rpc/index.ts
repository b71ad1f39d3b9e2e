export * from "./error_details_pb.js";
