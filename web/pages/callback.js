// Where an outside provider sends people back to: ends the sign-in that this tab began.
import { identityV1 } from "/weft.js";
import { byId, explain, service } from "/session.js";
import { arrive, flow } from "/arrival.js";

const query = new URLSearchParams(location.search);
history.replaceState(null, "", location.pathname);

async function complete() {
  const { binding, next } = flow.take();
  const error = query.get("error");
  if (error || !binding) throw new Error(error ? "The provider did not sign you in." : "Begin again, please.");
  const { outcome } = await service(identityV1.ProviderService).completeProviderSignIn({
    state: query.get("state") ?? "",
    code: query.get("code") ?? "",
    iss: query.get("iss") ?? "",
    binding,
  });
  arrive(outcome, next);
}

complete().catch((error) => {
  byId("problem").textContent = explain(error);
});
