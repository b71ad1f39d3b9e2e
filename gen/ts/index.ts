// import { createClient, createGrpcWebTransport, identityV1 } from "/weft.js";
// const transport = createGrpcWebTransport({ baseUrl: location.origin });
// const { user } = await createClient(identityV1.UserService, transport).getMe({});
export { Code, ConnectError, createClient } from "@connectrpc/connect";
export { createGrpcWebTransport } from "@connectrpc/connect-web";
export {
  clone, create, equals, fromBinary, fromJson, fromJsonString, isMessage, toBinary, toJson, toJsonString,
} from "@bufbuild/protobuf";
export {
  anyUnpack, durationFromMs, durationMs, timestampDate, timestampFromDate, timestampNow,
} from "@bufbuild/protobuf/wkt";
export * as auditV1 from "./weft/audit/v1/index.js";
export * as billingV1 from "./weft/billing/v1/index.js";
export * as cartV1 from "./weft/cart/v1/index.js";
export * as catalogV1 from "./weft/catalog/v1/index.js";
export * as healthV1 from "./weft/health/v1/index.js";
export * as identityV1 from "./weft/identity/v1/index.js";
export * as inventoryV1 from "./weft/inventory/v1/index.js";
export * as jobsV1 from "./weft/jobs/v1/index.js";
export * as ledgerV1 from "./weft/ledger/v1/index.js";
export * as moneyV1 from "./weft/money/v1/index.js";
export * as notificationV1 from "./weft/notification/v1/index.js";
export * as optionsV1 from "./weft/options/v1/index.js";
export * as orderV1 from "./weft/order/v1/index.js";
export * as paymentV1 from "./weft/payment/v1/index.js";
export * as pricingV1 from "./weft/pricing/v1/index.js";
export * as queueV1 from "./weft/queue/v1/index.js";
export * as ratelimitV1 from "./weft/ratelimit/v1/index.js";
export * as registryV1 from "./weft/registry/v1/index.js";
export * as schedulerV1 from "./weft/scheduler/v1/index.js";
export * as workerV1 from "./weft/worker/v1/index.js";
export * as rpc from "./google/rpc/index.js";
