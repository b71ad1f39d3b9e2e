// The developer's mailbox: one stream brings what is there and what arrives.
import { notificationV1, timestampDate } from "/weft.js";
import { byId, explain, service } from "/session.js";

const RETRY_MS = 2000; // Between a broken stream and the next one.
const MAILS_MAX = 500; // As many as the server keeps.
const VIEWS = ["html", "text", "source"];

const mailbox = service(notificationV1.MailboxService);
const mails = new Map(); // By id, oldest first.
let open = "";

function entry(mail) {
  const button = document.createElement("button");
  button.type = "button";
  const subject = Object.assign(document.createElement("strong"), { textContent: mail.subject || "(no subject)" });
  const who = `${mail.recipients.join(", ")} · ${timestampDate(mail.receiveTime).toLocaleTimeString()}`;
  button.append(subject, Object.assign(document.createElement("small"), { textContent: who }));
  button.dataset.mail = mail.mailId;
  button.addEventListener("click", () => show(mail));
  const line = document.createElement("li");
  line.append(button);
  return line;
}

function view(name) {
  for (const each of VIEWS) {
    byId(each).hidden = each !== name;
    byId(`${each}-tab`).setAttribute("aria-selected", String(each === name));
  }
}

async function show(mail) {
  open = mail.mailId;
  for (const button of byId("mails").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.mail === open));
  }
  byId("subject").textContent = mail.subject || "(no subject)";
  byId("from").textContent = mail.from;
  byId("to").textContent = mail.recipients.join(", ");
  byId("received").textContent = timestampDate(mail.receiveTime).toLocaleString();
  byId("text").textContent = mail.text;
  byId("source").textContent = "";
  // The frame runs no scripts; its links open beside this page.
  byId("html").srcdoc = `<base target="_blank">${mail.html}`;
  byId("mail").hidden = false;
  view(mail.html ? "html" : "text");
  try {
    const whole = await mailbox.getMail({ mailId: mail.mailId });
    if (open === mail.mailId) byId("source").textContent = new TextDecoder().decode(whole.mail.source);
  } catch (error) {
    byId("problem").textContent = explain(error);
  }
}

function take(mail) {
  if (mails.has(mail.mailId)) return;
  mails.set(mail.mailId, mail);
  byId("none").hidden = true;
  byId("mails").prepend(entry(mail));
  while (byId("mails").children.length > MAILS_MAX) byId("mails").lastElementChild.remove();
}

async function follow() {
  let afterSequence = 0n;
  for (;;) {
    try {
      for await (const { mail } of mailbox.watchMail({ afterSequence })) {
        afterSequence = mail.sequence;
        byId("problem").textContent = "";
        take(mail);
      }
    } catch (error) {
      byId("problem").textContent = explain(error);
    }
    await new Promise((resume) => setTimeout(resume, RETRY_MS));
  }
}

for (const name of VIEWS) byId(`${name}-tab`).addEventListener("click", () => view(name));

byId("clear").addEventListener("click", async () => {
  try {
    await mailbox.clearMail({});
    mails.clear();
    byId("mails").replaceChildren();
    byId("mail").hidden = true;
    byId("none").hidden = false;
  } catch (error) {
    byId("problem").textContent = explain(error);
  }
});

follow();
