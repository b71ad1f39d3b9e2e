-- What disputes took out of a wallet in all. A balance falls below what is held by these alone, and below
-- nothing only then: whatever is spent is refused there.
alter table wallet
    add column charged_back bigint not null default 0 check (charged_back >= 0),
    drop constraint wallet_never_negative,
    add constraint wallet_negative_by_disputes_alone check (balance + charged_back >= held);
alter table wallet_entry
    drop constraint wallet_entry_balance_check,
    add constraint wallet_entry_negative_by_disputes_alone
        check (balance >= 0 or amount > 0 or reason = 'CHARGED_BACK');
